select seq as "seq!", kind as "kind!", data as "data!", at as "at!"
from (
    select 1::bigint as seq, 'queued' as kind, '{}' as data, created_at as at from job where id = $1
    union all
    select seq, kind, data, at from job_event where job_id = $1
) as event
where seq > $2
order by seq
limit $3
