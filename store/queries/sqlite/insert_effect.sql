insert into job_effect (job_id, step, epoch, output, sha256, at)
values (?1, ?2, ?3, ?4, ?5, cast(unixepoch('subsec') * 1000000 as integer))
on conflict (job_id, step) do nothing
