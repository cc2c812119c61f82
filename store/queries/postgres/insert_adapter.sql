insert into adapter (tenant_id, name, created_at) values ($1, $2, $3)
on conflict (tenant_id, name) do nothing
