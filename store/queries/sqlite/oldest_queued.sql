select (cast(unixepoch('subsec') * 1000000 as integer) - min(run_at)) as "waits!: i64"
from job
where state = 'queued' and run_at <= cast(unixepoch('subsec') * 1000000 as integer)
having count(*) > 0
