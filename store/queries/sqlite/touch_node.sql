update node
set last_seen_at = max(coalesce(last_seen_at, 0), ?)
where id = ? and session_epoch = ? and revoked_at is null
