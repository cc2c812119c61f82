-- Who did what to which object, and when. Append only; old entries leave by age. The actor is text, not a reference: an
-- entry outlives the key that made it.

create table audit_entry (
    id bigint generated always as identity primary key,
    tenant_id text collate "C" not null,
    actor text not null,
    action text not null,
    object text not null,
    detail text not null, -- JSON
    at bigint not null
);

create index audit_entry_tenant on audit_entry (tenant_id, id);
create index audit_entry_at on audit_entry (at);
