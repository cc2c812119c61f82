delete from job
where id in (select id from job where finished_at < micros_now() - $1 order by finished_at limit $2)
