select id, request_sha256 as "request_sha256!" from job where tenant_id = ?1 and idempotency_key = ?2
