select
    id, tenant_id, kind, priority, payload, state, attempt, attempts_max, run_at, cancel_requested_at, lease_epoch, checkpoint,
    result, error, created_at, started_at, finished_at
from job
where tenant_id = ?1 and id = ?2
