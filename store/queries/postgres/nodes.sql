-- One tenant's, or with no tenant everyone's.
select
    id, public_key, kind, tenant_id, name, join_token_id, enrolled_at, last_seen_at, revoked_at,
    session_epoch
from node
where ($1::text is null or tenant_id = $1) and id > $2
order by id
limit $3
