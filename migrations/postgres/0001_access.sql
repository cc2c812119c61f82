-- Who owns things and who may call. A key's secret is never stored, only its SHA-256: secrets are long and random, so a
-- plain digest is enough and lets a key be found by one indexed look-up.
--
-- Text that is compared or sorted has the collation "C", here and in the other files: listings go by bytes, as in SQLite
-- and in the program, whatever language the server was set up for.

create table tenant (
    id text collate "C" not null primary key check (length(id) between 1 and 64),
    name text not null,
    created_at bigint not null
);

create table api_key (
    id text collate "C" not null primary key,
    tenant_id text collate "C" not null references tenant (id),
    name text not null,
    secret_sha256 bytea not null unique check (length(secret_sha256) = 32),
    scopes text not null, -- a JSON array of strings
    created_at bigint not null,
    expires_at bigint,
    revoked_at bigint
);

create index api_key_tenant on api_key (tenant_id, id);
