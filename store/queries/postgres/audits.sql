-- Newest first.
select id, tenant_id, actor, action, object, detail, at
from audit_entry
where tenant_id = $1 and id < $2
order by id desc
limit $3
