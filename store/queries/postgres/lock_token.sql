-- The token of this secret. Until the transaction ends nobody else can spend or revoke it.
select id, tenant_id, kind, uses_max, uses, created_at, expires_at, revoked_at
from join_token
where secret_sha256 = $1
for update
