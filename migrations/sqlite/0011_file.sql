-- Callers' own files: what batches and evaluations read, and what they write. The bytes are a blob, which several files may share.

create table file (
    id text not null primary key,
    tenant_id text not null references tenant (id),
    purpose text not null check (purpose in ('batch', 'batch_output', 'evaluate', 'fine-tune', 'user_data')),
    name text not null,
    size_bytes integer not null check (size_bytes >= 0),
    sha256 blob not null check (length(sha256) = 32),
    idempotency_key text,
    request_sha256 blob check (length(request_sha256) = 32),
    created_at integer not null,
    expires_at integer,
    unique (tenant_id, idempotency_key),
    check ((idempotency_key is null) = (request_sha256 is null))
) strict;

create index file_tenant on file (tenant_id, id);
create index file_sha256 on file (sha256);
create index file_expires on file (expires_at) where expires_at is not null;
