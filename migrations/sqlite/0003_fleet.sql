-- Who may link as a node. `session_epoch` rises with each link: of two holders of one key, the later one fences the earlier.
-- `uses` is counted in the transaction that enrols the node, and the check makes a double spend impossible, not just unlikely.

create table join_token (
    id text not null primary key,
    tenant_id text not null references tenant (id),
    kind text not null check (kind in ('device', 'worker')),
    secret_sha256 blob not null unique check (length(secret_sha256) = 32),
    uses_max integer not null default 1 check (uses_max > 0),
    uses integer not null default 0,
    created_at integer not null,
    expires_at integer not null,
    revoked_at integer,
    check (uses between 0 and uses_max)
) strict;

create index join_token_tenant on join_token (tenant_id, id);

create table node (
    id text not null primary key,
    public_key blob not null unique check (length(public_key) = 32),
    kind text not null check (kind in ('device', 'worker')),
    tenant_id text not null references tenant (id),
    name text not null,
    join_token_id text not null references join_token (id),
    enrolled_at integer not null,
    last_seen_at integer,
    revoked_at integer,
    session_epoch integer not null default 0
) strict;

create index node_tenant on node (tenant_id, id);
