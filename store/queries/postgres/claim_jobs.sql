-- What others are claiming is passed over, so nobody waits and each job is claimed once.
with ready as (
    select id from job
    where state = 'queued' and run_at <= micros_now()
    order by priority desc, run_at, id
    limit $1
    for update skip locked
)
update job
set state = 'running',
    attempt = attempt + 1,
    lease_owner = $2,
    lease_epoch = lease_epoch + 1,
    lease_until = micros_now() + $3,
    started_at = coalesce(started_at, micros_now())
from ready
where job.id = ready.id
returning
    job.id, tenant_id, kind, priority, payload, state, attempt, attempts_max, run_at, cancel_requested_at, lease_epoch, checkpoint, result, error, created_at, started_at, finished_at
