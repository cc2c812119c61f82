select name from adapter where tenant_id = $1 and number = $2
