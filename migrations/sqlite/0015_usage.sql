-- What tenants used, summed by the hour: of which adapter (empty for the base alone) and at which node (empty for what no
-- node did, such as requests that were refused). What was used stays what it was, also of a tenant that is no more: no
-- reference.

create table usage_hour (
    tenant_id text not null,
    hour integer not null, -- its start
    adapter text not null,
    node_id text not null,
    requests integer not null,
    refused integer not null,
    prompt_tokens integer not null,
    cached_tokens integer not null,
    completion_tokens integer not null,
    primary key (tenant_id, hour, adapter, node_id)
) strict;

create index usage_hour_age on usage_hour (hour);
