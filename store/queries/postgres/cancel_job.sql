-- One that waits is over at once; one that runs is told by its next heartbeat.
update job
set cancel_requested_at = coalesce(cancel_requested_at, micros_now()),
    finished_at = case when state = 'queued' then micros_now() end,
    state = case when state = 'queued' then 'cancelled' else state end
where tenant_id = $1 and id = $2 and state in ('queued', 'running')
