-- Newest first: ids begin with their time.
select
    id, tenant_id, kind, priority, payload, state, attempt, attempts_max, run_at, cancel_requested_at, lease_epoch, checkpoint,
    result, error, created_at, started_at, finished_at
from job
where tenant_id = ?1 and (?2 = '' or id < ?2)
order by id desc
limit ?3
