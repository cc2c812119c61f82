update node
set session_epoch = session_epoch + 1, last_seen_at = greatest(coalesce(last_seen_at, 0), $1)
where id = $2 and revoked_at is null
returning session_epoch as "session_epoch!"
