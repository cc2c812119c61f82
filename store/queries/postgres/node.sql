select
    id, public_key, kind, tenant_id, name, join_token_id, enrolled_at, last_seen_at, revoked_at,
    session_epoch
from node
where id = $1
