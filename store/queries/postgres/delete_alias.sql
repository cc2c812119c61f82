delete from alias where tenant_id = $1 and name = $2
