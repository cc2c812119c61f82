update job
set state = 'queued',
    attempt = 0,
    run_at = micros_now(),
    error = null,
    finished_at = null,
    lease_epoch = lease_epoch + 1
where tenant_id = $1 and id = $2 and state in ('failed', 'dead')
