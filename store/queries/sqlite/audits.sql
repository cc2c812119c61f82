-- Newest first.
select id, tenant_id, actor, action, object, detail, at
from audit_entry
where tenant_id = ? and id < ?
order by id desc
limit ?
