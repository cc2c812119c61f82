select
    id,
    name,
    created_at,
    weight as "weight?",
    concurrent_max as "concurrent_max?",
    requests_per_minute as "requests_per_minute?",
    tokens_per_minute as "tokens_per_minute?",
    tokens_per_day as "tokens_per_day?",
    priority as "priority?"
from tenant
left join tenant_limit on tenant_id = id
where id = $1
