insert into alias (tenant_id, name, adapter_name, generation_id, revision, updated_at)
values ($1, $2, $3, $4, 1, $5)
on conflict (tenant_id, name) do update
set adapter_name = excluded.adapter_name,
    generation_id = excluded.generation_id,
    revision = alias.revision + 1,
    updated_at = excluded.updated_at
returning revision as "revision!"
