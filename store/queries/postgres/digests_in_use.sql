-- Of these digests, a JSON list in hexadecimal, those that something uses: a generation's file, unless the generation failed,
-- for what failed is never loaded again as it is and comes anew with its files; a caller's file; a job's step.
with asked as (select array(select decode(value, 'hex') from json_array_elements_text($1::text::json)) as digests)
select generation_file.sha256 as "sha256!"
from asked, generation_file
join generation on generation.seq = generation_file.generation_seq
where generation_file.sha256 = any (asked.digests) and generation.state <> 'failed'
union
select file.sha256 from asked, file where file.sha256 = any (asked.digests)
union
select job_effect.sha256 from asked, job_effect where job_effect.sha256 = any (asked.digests)
