select name from adapter where tenant_id = ? and number = ?
