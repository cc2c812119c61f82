-- What tenants used, summed by the hour: of which adapter (empty for the base alone) and at which node (empty for what no
-- node did, such as requests that were refused). What was used stays what it was, also of a tenant that is no more: no
-- reference.

create table usage_hour (
    tenant_id text collate "C" not null,
    hour bigint not null, -- its start
    adapter text collate "C" not null,
    node_id text collate "C" not null,
    requests bigint not null,
    refused bigint not null,
    prompt_tokens bigint not null,
    cached_tokens bigint not null,
    completion_tokens bigint not null,
    primary key (tenant_id, hour, adapter, node_id)
);

create index usage_hour_age on usage_hour (hour);
