-- Who may link as a node. `session_epoch` rises with each link: of two holders of one key, the later one fences the earlier.
-- `uses` is counted in the transaction that enrols the node, and the check makes a double spend impossible, not just unlikely.

create table join_token (
    id text collate "C" not null primary key,
    tenant_id text collate "C" not null references tenant (id),
    kind text not null check (kind in ('device', 'worker')),
    secret_sha256 bytea not null unique check (length(secret_sha256) = 32),
    uses_max bigint not null default 1 check (uses_max > 0),
    uses bigint not null default 0,
    created_at bigint not null,
    expires_at bigint not null,
    revoked_at bigint,
    check (uses between 0 and uses_max)
);

create index join_token_tenant on join_token (tenant_id, id);

create table node (
    id text collate "C" not null primary key,
    public_key bytea not null unique check (length(public_key) = 32),
    kind text not null check (kind in ('device', 'worker')),
    tenant_id text collate "C" not null references tenant (id),
    name text not null,
    join_token_id text collate "C" not null references join_token (id),
    enrolled_at bigint not null,
    last_seen_at bigint,
    revoked_at bigint,
    session_epoch bigint not null default 0
);

create index node_tenant on node (tenant_id, id);
