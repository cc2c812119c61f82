insert into adapter (tenant_id, name, created_at) values (?, ?, ?)
on conflict (tenant_id, name) do nothing
