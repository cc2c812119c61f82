delete from adapter where tenant_id = ? and name = ?
