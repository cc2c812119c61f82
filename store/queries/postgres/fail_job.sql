-- Without a pause, or after as many attempts as it has, it is over.
update job
set state = case
        when cancel_requested_at is not null then 'cancelled'
        when $1::bigint is null then 'failed'
        when attempt >= attempts_max then 'dead'
        else 'queued'
    end,
    error = $2,
    run_at = micros_now() + coalesce($1, 0),
    finished_at = case
        when cancel_requested_at is null and $1 is not null and attempt < attempts_max then null
        else micros_now()
    end,
    lease_owner = null,
    lease_until = null
where id = $3 and lease_epoch = $4 and state = 'running'
returning state
