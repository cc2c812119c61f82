delete from alias where tenant_id = ? and adapter_name = ?
