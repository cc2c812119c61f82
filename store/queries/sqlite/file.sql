-- One that has expired is gone, whether or not it was swept.
select id, tenant_id, purpose, name, size_bytes, sha256, created_at, expires_at
from file
where tenant_id = ?1 and id = ?2 and (expires_at is null or expires_at > cast(unixepoch('subsec') * 1000000 as integer))
