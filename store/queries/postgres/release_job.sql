-- Given back in good order: the attempt does not count.
update job
set state = 'queued',
    attempt = case when attempt > 0 then attempt - 1 else 0 end,
    run_at = micros_now(),
    lease_owner = null,
    lease_until = null
where id = $1 and lease_epoch = $2 and state = 'running'
