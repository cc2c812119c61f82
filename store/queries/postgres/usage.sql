select
    case when $1::bool then hour end as "hour?",
    case when $2::bool then tenant_id end as "tenant?",
    case when $3::bool then adapter end as "adapter?",
    case when $4::bool then node_id end as "node?",
    sum(requests)::bigint as "requests!",
    sum(refused)::bigint as "refused!",
    sum(prompt_tokens)::bigint as "prompt_tokens!",
    sum(cached_tokens)::bigint as "cached_tokens!",
    sum(completion_tokens)::bigint as "completion_tokens!"
from usage_hour
where hour >= $5 and hour < $6 and ($7::text is null or tenant_id = $7)
group by 1, 2, 3, 4
order by 1, 2, 3, 4
limit $8
