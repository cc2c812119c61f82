insert into job_effect (job_id, step, epoch, output, sha256, at)
values ($1, $2, $3, $4, $5, micros_now())
on conflict (job_id, step) do nothing
