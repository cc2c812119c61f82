select
    id,
    name,
    created_at,
    weight as "weight?: i64",
    concurrent_max as "concurrent_max?: i64",
    requests_per_minute as "requests_per_minute?: i64",
    tokens_per_minute as "tokens_per_minute?: i64",
    tokens_per_day as "tokens_per_day?: i64",
    priority as "priority?: String"
from tenant
left join tenant_limit on tenant_id = id
where id = ?
