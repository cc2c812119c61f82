-- Jobs whose holder fell silent. The raised epoch shuts it out, should it wake up.
with late as (
    select id from job
    where state = 'running' and lease_until < micros_now()
    order by lease_until
    limit $1
    for update skip locked
)
update job
set state = case
        when cancel_requested_at is not null then 'cancelled'
        when attempt >= attempts_max then 'dead'
        else 'queued'
    end,
    error = $2,
    finished_at = case
        when cancel_requested_at is null and attempt < attempts_max then null else micros_now()
    end,
    run_at = micros_now() + (random() * 1000000 * least(60, power(2, attempt)))::bigint,
    lease_epoch = lease_epoch + 1,
    lease_owner = null,
    lease_until = null
from late
where job.id = late.id
returning job.id, job.state
