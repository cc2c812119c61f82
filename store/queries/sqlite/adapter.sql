-- The caller's own adapter, or else the shared one of that name.
select tenant_id, name, shared as "shared!: bool", created_at
from adapter
where name = ?2 and (tenant_id = ?1 or shared = 1)
order by tenant_id = ?1 desc
limit 1
