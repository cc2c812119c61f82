select id, tenant_id, name, scopes, created_at, expires_at, revoked_at
from api_key
where tenant_id = $1 and id > $2
order by id
limit $3
