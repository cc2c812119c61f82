select count(*) as "count!: i64"
from (select 1 from job where tenant_id = ?1 and state = 'queued' limit ?2)
