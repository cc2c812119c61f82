delete from file where tenant_id = $1 and id = $2 returning sha256
