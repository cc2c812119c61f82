select id, tenant_id, kind, uses_max, uses, created_at, expires_at, revoked_at
from join_token
where tenant_id = $1 and id > $2
order by id
limit $3
