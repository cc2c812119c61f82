delete from job
where id in (select id from job where finished_at < cast(unixepoch('subsec') * 1000000 as integer) - ?1 order by finished_at limit ?2)
