insert into node (id, public_key, kind, tenant_id, name, join_token_id, enrolled_at)
values ($1, $2, $3, $4, $5, $6, $7)
