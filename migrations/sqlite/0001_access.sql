-- Who owns things and who may call. A key's secret is never stored, only its SHA-256: secrets are long and random, so a
-- plain digest is enough and lets a key be found by one indexed look-up.

create table tenant (
    id text not null primary key check (length(id) between 1 and 64),
    name text not null,
    created_at integer not null
) strict;

create table api_key (
    id text not null primary key,
    tenant_id text not null references tenant (id),
    name text not null,
    secret_sha256 blob not null unique check (length(secret_sha256) = 32),
    scopes text not null, -- a JSON array of strings
    created_at integer not null,
    expires_at integer,
    revoked_at integer
) strict;

create index api_key_tenant on api_key (tenant_id, id);
