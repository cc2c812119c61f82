insert into job_event (job_id, seq, kind, data, at)
select ?1, coalesce(max(seq), 1) + 1, ?2, ?3, cast(unixepoch('subsec') * 1000000 as integer) from job_event where job_id = ?1
