-- Jobs whose holder fell silent. The raised epoch shuts it out, should it wake up.
update job
set state = case
        when cancel_requested_at is not null then 'cancelled'
        when attempt >= attempts_max then 'dead'
        else 'queued'
    end,
    error = ?2,
    finished_at = case
        when cancel_requested_at is null and attempt < attempts_max then null else cast(unixepoch('subsec') * 1000000 as integer)
    end,
    run_at = cast(unixepoch('subsec') * 1000000 as integer) + abs(random() % 1000000) * min(60, 1 << min(attempt, 6)),
    lease_epoch = lease_epoch + 1,
    lease_owner = null,
    lease_until = null
where id in (
    select id from job
    where state = 'running' and lease_until < cast(unixepoch('subsec') * 1000000 as integer)
    order by lease_until
    limit ?1
)
returning id as "id!: String", state as "state!: String"
