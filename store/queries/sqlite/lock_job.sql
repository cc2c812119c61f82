-- The tenant of a job that this claim still holds. The transaction holds the write lock, so nobody takes it away.
select tenant_id from job where id = ?1 and lease_epoch = ?2 and state = 'running'
