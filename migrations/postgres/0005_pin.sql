-- Operators pin the adapters that must answer at once: nodes keep them in memory whatever else is loaded. It is recorded here,
-- not on the nodes, so that it outlives a restart and reaches nodes that were away. The index is what each link looks at.

alter table adapter add column pinned boolean not null default false;

create index adapter_pinned on adapter (tenant_id, name) where pinned;
