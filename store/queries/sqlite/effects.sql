select step, output, sha256
from job_effect
where job_id = ?1 and step > ?2
order by step
limit ?3
