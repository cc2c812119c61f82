-- The transaction holds the write lock, so nobody else claims meanwhile.
update job
set state = 'running',
    attempt = attempt + 1,
    lease_owner = ?2,
    lease_epoch = lease_epoch + 1,
    lease_until = cast(unixepoch('subsec') * 1000000 as integer) + ?3,
    started_at = coalesce(started_at, cast(unixepoch('subsec') * 1000000 as integer))
where id in (
    select id from job
    where state = 'queued' and run_at <= cast(unixepoch('subsec') * 1000000 as integer)
    order by priority desc, run_at, id
    limit ?1
)
returning
    id as "id!: String",
    tenant_id as "tenant_id!: String",
    kind as "kind!: String",
    priority as "priority!: i64",
    payload as "payload!: String",
    state as "state!: String",
    attempt as "attempt!: i64",
    attempts_max as "attempts_max!: i64",
    run_at as "run_at!: i64",
    cancel_requested_at as "cancel_requested_at?: i64",
    lease_epoch as "lease_epoch!: i64",
    checkpoint as "checkpoint?: String",
    result as "result?: String",
    error as "error?: String",
    created_at as "created_at!: i64",
    started_at as "started_at?: i64",
    finished_at as "finished_at?: i64"
