select
    case when ?1 then hour end as "hour?: i64",
    case when ?2 then tenant_id end as "tenant?: String",
    case when ?3 then adapter end as "adapter?: String",
    case when ?4 then node_id end as "node?: String",
    sum(requests) as "requests!: i64",
    sum(refused) as "refused!: i64",
    sum(prompt_tokens) as "prompt_tokens!: i64",
    sum(cached_tokens) as "cached_tokens!: i64",
    sum(completion_tokens) as "completion_tokens!: i64"
from usage_hour
where hour >= ?5 and hour < ?6 and (?7 is null or tenant_id = ?7)
group by 1, 2, 3, 4
order by 1, 2, 3, 4
limit ?8
