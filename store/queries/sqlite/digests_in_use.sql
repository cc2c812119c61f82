-- Of these digests, a JSON list in hexadecimal, those that something uses: a generation's file, unless the generation failed,
-- for what failed is never loaded again as it is and comes anew with its files; a caller's file; a job's step.
with asked as (select unhex(value) as sha256 from json_each(?))
select generation_file.sha256 as "sha256!"
from generation_file
join generation on generation.seq = generation_file.generation_seq
where generation_file.sha256 in (select sha256 from asked) and generation.state <> 'failed'
union
select file.sha256 from file where file.sha256 in (select sha256 from asked)
union
select job_effect.sha256 from job_effect where job_effect.sha256 in (select sha256 from asked)
