-- A batch is OpenAI's view of a job of the kind `bulk`: what it was asked for is here, how far it has come is the job's.

create table batch (
    id text not null primary key,
    tenant_id text not null references tenant (id),
    job_id text not null unique references job (id) on delete cascade,
    input_file_id text not null,
    endpoint text not null,
    completion_window text not null,
    metadata text not null, -- JSON
    created_at integer not null,
    expires_at integer not null
) strict;

create index batch_tenant on batch (tenant_id, id);
