-- What can be run. A generation is immutable but for its state; an alias is the only thing that moves, by compare-and-swap.
-- The same files may be one tenant's generation under two adapters, so a generation is known by tenant, adapter and id.
-- `seq` orders generations for listing and gives a page its cursor.

create table firmware (
    id bytea not null primary key check (length(id) = 32),
    name text not null,
    version text not null,
    manifest text not null, -- the exact text whose SHA-256 is the id
    created_at bigint not null
);

create table adapter (
    tenant_id text collate "C" not null references tenant (id),
    name text collate "C" not null check (length(name) between 1 and 64),
    shared boolean not null default false,
    created_at bigint not null,
    primary key (tenant_id, name)
);

-- A shared adapter is found by name from every tenant, so there is one of a name.
create unique index adapter_shared on adapter (name) where shared;

create table generation (
    seq bigint generated always as identity primary key,
    tenant_id text collate "C" not null,
    adapter_name text collate "C" not null,
    id bytea not null check (length(id) = 32),
    firmware_id bytea not null references firmware (id),
    manifest text not null, -- the exact text whose SHA-256 is the id
    state text not null default 'pending' check (
        state in ('pending', 'loading', 'verified', 'serving', 'draining', 'retired', 'failed')
    ),
    state_at bigint not null,
    failure text,
    proof text, -- JSON: what loading and probing it showed
    created_at bigint not null,
    unique (tenant_id, adapter_name, id),
    foreign key (tenant_id, adapter_name) references adapter (tenant_id, name) on delete cascade,
    check ((state = 'failed') = (failure is not null)),
    check (state not in ('verified', 'serving', 'draining') or proof is not null)
);

create index generation_state on generation (state, seq);
create index generation_firmware on generation (firmware_id);

create table generation_file (
    generation_seq bigint not null references generation (seq) on delete cascade,
    role text not null,
    path text collate "C" not null,
    sha256 bytea not null check (length(sha256) = 32),
    size_bytes bigint not null check (size_bytes >= 0),
    primary key (generation_seq, path)
);

create index generation_file_sha256 on generation_file (sha256);

create table alias (
    tenant_id text collate "C" not null references tenant (id),
    name text collate "C" not null check (length(name) between 1 and 64),
    adapter_name text collate "C" not null,
    generation_id bytea not null,
    revision bigint not null check (revision > 0),
    updated_at bigint not null,
    primary key (tenant_id, name),
    -- No cascade: a generation that answers to a name cannot be deleted.
    foreign key (tenant_id, adapter_name, generation_id)
        references generation (tenant_id, adapter_name, id)
);

create index alias_generation on alias (tenant_id, adapter_name, generation_id);
