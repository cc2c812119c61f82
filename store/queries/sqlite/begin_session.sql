update node
set session_epoch = session_epoch + 1, last_seen_at = max(coalesce(last_seen_at, 0), ?)
where id = ? and revoked_at is null
returning session_epoch as "session_epoch!: i64"
