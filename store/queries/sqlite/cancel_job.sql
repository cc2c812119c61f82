-- One that waits is over at once; one that runs is told by its next heartbeat.
update job
set cancel_requested_at = coalesce(cancel_requested_at, cast(unixepoch('subsec') * 1000000 as integer)),
    finished_at = case when state = 'queued' then cast(unixepoch('subsec') * 1000000 as integer) end,
    state = case when state = 'queued' then 'cancelled' else state end
where tenant_id = ?1 and id = ?2 and state in ('queued', 'running')
