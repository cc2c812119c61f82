insert into join_token (id, tenant_id, kind, secret_sha256, uses_max, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7)
