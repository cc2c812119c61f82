-- llama.cpp's callers name adapters by number. A number is an adapter's for good: the tenant counts the numbers that it gave,
-- not its adapters, so that none is given twice and a deleted adapter's number never means another one. An adapter that a
-- neighbouring older release made meanwhile has none.

alter table tenant add column adapters_numbered bigint not null default 0;
alter table adapter add column number bigint check (number >= 0);

update adapter set number = (
    select count(*) from adapter as older
    where older.tenant_id = adapter.tenant_id
        and (older.created_at, older.name) < (adapter.created_at, adapter.name)
);
update tenant set adapters_numbered = (
    select count(*) from adapter where adapter.tenant_id = tenant.id
);

create unique index adapter_number on adapter (tenant_id, number);
