-- Without a pause, or after as many attempts as it has, it is over.
update job
set state = case
        when cancel_requested_at is not null then 'cancelled'
        when ?1 is null then 'failed'
        when attempt >= attempts_max then 'dead'
        else 'queued'
    end,
    error = ?2,
    run_at = cast(unixepoch('subsec') * 1000000 as integer) + coalesce(?1, 0),
    finished_at = case
        when cancel_requested_at is null and ?1 is not null and attempt < attempts_max then null
        else cast(unixepoch('subsec') * 1000000 as integer)
    end,
    lease_owner = null,
    lease_until = null
where id = ?3 and lease_epoch = ?4 and state = 'running'
returning state as "state!: String"
