select exists (select 1 from adapter where tenant_id = ? and name = ?) as "taken!: bool"
