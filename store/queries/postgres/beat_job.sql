update job
set lease_until = micros_now() + $1, checkpoint = coalesce($2, checkpoint)
where id = $3 and lease_epoch = $4 and state = 'running' and lease_until > micros_now()
returning cancel_requested_at is not null as "cancel!"
