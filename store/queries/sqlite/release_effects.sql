update job_effect set sha256 = null where job_id = ?1 and sha256 is not null
