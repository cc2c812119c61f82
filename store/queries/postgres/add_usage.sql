-- Every gateway adds to the rows in one order, so that no two wait for each other.
insert into usage_hour (
    tenant_id, hour, adapter, node_id, requests, refused, prompt_tokens, cached_tokens, completion_tokens
)
select tenant, hour, adapter, node, requests, refused, prompt_tokens, cached_tokens, completion_tokens
from json_to_recordset($1::text::json) as used (
    tenant text, hour bigint, adapter text, node text, requests bigint, refused bigint,
    prompt_tokens bigint, cached_tokens bigint, completion_tokens bigint
)
order by tenant collate "C", hour, adapter collate "C", node collate "C"
on conflict (tenant_id, hour, adapter, node_id) do update set
    requests = usage_hour.requests + excluded.requests,
    refused = usage_hour.refused + excluded.refused,
    prompt_tokens = usage_hour.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = usage_hour.cached_tokens + excluded.cached_tokens,
    completion_tokens = usage_hour.completion_tokens + excluded.completion_tokens
