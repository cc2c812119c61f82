-- Newest first: ids begin with their time.
select id, tenant_id, purpose, name, size_bytes, sha256, created_at, expires_at
from file
where tenant_id = ?1
    and (?2 = '' or id < ?2)
    and (?3 = '' or purpose = ?3)
    and (expires_at is null or expires_at > cast(unixepoch('subsec') * 1000000 as integer))
order by id desc
limit ?4
