select count(*) as "count!"
from (select 1 from job where tenant_id = $1 and state = 'queued' limit $2) as waiting
