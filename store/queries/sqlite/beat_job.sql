update job
set lease_until = cast(unixepoch('subsec') * 1000000 as integer) + ?1, checkpoint = coalesce(?2, checkpoint)
where id = ?3 and lease_epoch = ?4 and state = 'running' and lease_until > cast(unixepoch('subsec') * 1000000 as integer)
returning cancel_requested_at is not null as "cancel!: bool"
