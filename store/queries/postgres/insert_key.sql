insert into api_key (id, tenant_id, name, secret_sha256, scopes, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7)
