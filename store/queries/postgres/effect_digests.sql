select sha256 as "sha256!" from job_effect where job_id = $1 and sha256 is not null
