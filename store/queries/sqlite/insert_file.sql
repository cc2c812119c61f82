-- Meets no row if the tenant has used the key before.
insert into file (
    id, tenant_id, purpose, name, size_bytes, sha256, created_at, expires_at, idempotency_key, request_sha256
)
values (?1, ?2, ?3, ?4, ?5, ?6, cast(unixepoch('subsec') * 1000000 as integer), cast(unixepoch('subsec') * 1000000 as integer) + ?7, ?8, ?9)
on conflict (tenant_id, idempotency_key) do nothing
