update node
set last_seen_at = greatest(coalesce(last_seen_at, 0), $1)
where id = $2 and session_epoch = $3 and revoked_at is null
