insert into node (id, public_key, kind, tenant_id, name, join_token_id, enrolled_at)
values (?, ?, ?, ?, ?, ?, ?)
