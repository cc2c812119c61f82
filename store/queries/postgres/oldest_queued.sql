select (micros_now() - min(run_at)) as "waits!"
from job
where state = 'queued' and run_at <= micros_now()
having count(*) > 0
