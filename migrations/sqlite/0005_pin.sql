-- Operators pin the adapters that must answer at once: nodes keep them in memory whatever else is loaded. It is recorded here,
-- not on the nodes, so that it outlives a restart and reaches nodes that were away. The index is what each link looks at.

alter table adapter add column pinned integer not null default 0 check (pinned in (0, 1));

create index adapter_pinned on adapter (tenant_id, name) where pinned = 1;
