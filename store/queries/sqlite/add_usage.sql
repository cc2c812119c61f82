insert into usage_hour (
    tenant_id, hour, adapter, node_id, requests, refused, prompt_tokens, cached_tokens, completion_tokens
)
select
    json_extract(value, '$.tenant'),
    json_extract(value, '$.hour'),
    json_extract(value, '$.adapter'),
    json_extract(value, '$.node'),
    json_extract(value, '$.requests'),
    json_extract(value, '$.refused'),
    json_extract(value, '$.prompt_tokens'),
    json_extract(value, '$.cached_tokens'),
    json_extract(value, '$.completion_tokens')
from json_each(?)
where true -- tells `on conflict` from a join's `on`
on conflict (tenant_id, hour, adapter, node_id) do update set
    requests = usage_hour.requests + excluded.requests,
    refused = usage_hour.refused + excluded.refused,
    prompt_tokens = usage_hour.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = usage_hour.cached_tokens + excluded.cached_tokens,
    completion_tokens = usage_hour.completion_tokens + excluded.completion_tokens
