update job
set idempotency_key = null, request_sha256 = null
where idempotency_key is not null and created_at < cast(unixepoch('subsec') * 1000000 as integer) - ?1
