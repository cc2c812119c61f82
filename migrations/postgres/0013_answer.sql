-- Answers to requests that carry an `Idempotency-Key` and leave nothing else in the record. A row without a status is a request
-- that still runs; `begun_until` says until when that is believed, should its gateway have died.

create table answer (
    tenant_id text collate "C" not null references tenant (id),
    idempotency_key text collate "C" not null,
    request_sha256 bytea not null check (length(request_sha256) = 32),
    owner text not null,
    begun_until bigint not null,
    status bigint,
    body text,
    created_at bigint not null,
    primary key (tenant_id, idempotency_key),
    check ((status is null) = (body is null))
);

create index answer_created on answer (created_at);
