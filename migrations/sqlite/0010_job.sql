-- Durable work. An accepted job is never lost; a step may run more than once; its effect is recorded once. What holds that up:
-- a job is claimed under a lease, each claim raises `lease_epoch`, and whoever writes names the epoch that it claimed, so one who
-- lost the job meets no row. `attempt` counts claims since the last recorded effect: work that gets on is never given up.
--
-- Every time here is the database's own: this machine's clock.

create table job (
    id text not null primary key,
    tenant_id text not null references tenant (id),
    kind text not null,
    priority integer not null default 0,
    payload text not null, -- JSON
    state text not null default 'queued'
        check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'dead')),
    attempt integer not null default 0,
    attempts_max integer not null check (attempts_max > 0),
    run_at integer not null, -- not before
    cancel_requested_at integer,
    lease_owner text,
    lease_epoch integer not null default 0,
    lease_until integer,
    checkpoint text, -- JSON
    result text, -- JSON
    error text, -- JSON
    idempotency_key text,
    request_sha256 blob check (length(request_sha256) = 32),
    created_at integer not null,
    started_at integer,
    finished_at integer,
    unique (tenant_id, idempotency_key),
    check ((idempotency_key is null) = (request_sha256 is null)),
    check ((state = 'running') = (lease_until is not null)),
    check ((state in ('queued', 'running')) = (finished_at is null))
) strict;

create index job_tenant on job (tenant_id, id);
create index job_state on job (state);
create index job_ready on job (priority desc, run_at, id) where state = 'queued';
create index job_lease on job (lease_until) where state = 'running';
create index job_finished on job (finished_at) where finished_at is not null;

-- What `GET /v1/jobs/{job}/events` tells. Number 1, that the job was queued, is in the job's own row.
create table job_event (
    job_id text not null references job (id) on delete cascade,
    seq integer not null check (seq > 1),
    kind text not null,
    data text not null, -- JSON
    at integer not null,
    primary key (job_id, seq)
) strict;

-- What a step did: one row, whoever repeats it. `sha256` is a blob that the step made and that the job still needs.
create table job_effect (
    job_id text not null references job (id) on delete cascade,
    step text not null,
    epoch integer not null,
    output text not null, -- JSON
    sha256 blob check (length(sha256) = 32),
    at integer not null,
    primary key (job_id, step)
) strict;

create index job_effect_sha256 on job_effect (sha256) where sha256 is not null;
