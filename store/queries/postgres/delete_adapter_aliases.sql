delete from alias where tenant_id = $1 and adapter_name = $2
