-- The token of this secret. The transaction holds the write lock, so nobody else can spend or revoke it.
select id, tenant_id, kind, uses_max, uses, created_at, expires_at, revoked_at
from join_token
where secret_sha256 = ?
