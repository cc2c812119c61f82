select id, tenant_id, name, scopes, created_at, expires_at, revoked_at
from api_key
where secret_sha256 = $1
