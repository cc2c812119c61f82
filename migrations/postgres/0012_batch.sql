-- A batch is OpenAI's view of a job of the kind `bulk`: what it was asked for is here, how far it has come is the job's.

create table batch (
    id text collate "C" not null primary key,
    tenant_id text collate "C" not null references tenant (id),
    job_id text collate "C" not null unique references job (id) on delete cascade,
    input_file_id text not null,
    endpoint text not null,
    completion_window text not null,
    metadata text not null, -- JSON
    created_at bigint not null,
    expires_at bigint not null
);

create index batch_tenant on batch (tenant_id, id);
