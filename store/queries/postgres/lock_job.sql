-- The tenant of a job that this claim still holds. Until the transaction ends nobody takes it away.
select tenant_id from job where id = $1 and lease_epoch = $2 and state = 'running' for update
