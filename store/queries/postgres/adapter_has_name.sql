select exists (select 1 from adapter where tenant_id = $1 and name = $2) as "taken!"
