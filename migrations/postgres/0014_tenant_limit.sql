-- How much a tenant may ask for, and how large its share is where requests wait. What is null is as the gateway's own
-- settings say; a tenant without a row has nothing of its own.

create table tenant_limit (
    tenant_id text collate "C" not null primary key references tenant (id),
    weight bigint check (weight > 0),
    concurrent_max bigint check (concurrent_max > 0),
    requests_per_minute bigint check (requests_per_minute > 0),
    tokens_per_minute bigint check (tokens_per_minute > 0),
    tokens_per_day bigint check (tokens_per_day > 0),
    priority text, -- the most urgent that it may ask for
    changed_at bigint not null
);
