delete from adapter where tenant_id = $1 and name = $2
