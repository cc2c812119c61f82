update job
set state = ?1, result = ?2, error = null, finished_at = cast(unixepoch('subsec') * 1000000 as integer), lease_owner = null, lease_until = null
where id = ?3 and lease_epoch = ?4 and state = 'running'
