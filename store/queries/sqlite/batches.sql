-- Newest first: ids begin with their time.
select id, job_id, input_file_id, endpoint, completion_window, metadata, created_at, expires_at
from batch
where tenant_id = ?1 and (?2 = '' or id < ?2)
order by id desc
limit ?3
