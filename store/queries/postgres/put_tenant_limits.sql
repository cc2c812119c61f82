insert into tenant_limit (tenant_id, weight, concurrent_max, requests_per_minute, tokens_per_minute, tokens_per_day, priority, changed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (tenant_id) do update set
    weight = excluded.weight,
    concurrent_max = excluded.concurrent_max,
    requests_per_minute = excluded.requests_per_minute,
    tokens_per_minute = excluded.tokens_per_minute,
    tokens_per_day = excluded.tokens_per_day,
    priority = excluded.priority,
    changed_at = excluded.changed_at
