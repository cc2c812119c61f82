delete from alias where tenant_id = ? and name = ?
