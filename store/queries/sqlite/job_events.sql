select seq as "seq!: i64", kind as "kind!: String", data as "data!: String", at as "at!: i64"
from (
    select 1 as seq, 'queued' as kind, '{}' as data, created_at as at from job where id = ?1
    union all
    select seq, kind, data, at from job_event where job_id = ?1
)
where seq > ?2
order by seq
limit ?3
