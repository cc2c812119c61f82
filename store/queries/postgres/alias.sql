-- The caller's own alias, or else the alias of a shared adapter that bears the adapter's own name.
select
    alias.tenant_id, alias.name, alias.adapter_name, alias.generation_id, generation.firmware_id,
    generation.created_at as generation_created_at, alias.revision, alias.updated_at
from alias
join adapter on adapter.tenant_id = alias.tenant_id and adapter.name = alias.adapter_name
join generation
    on generation.tenant_id = alias.tenant_id
    and generation.adapter_name = alias.adapter_name
    and generation.id = alias.generation_id
where alias.name = $2
    and (
        alias.tenant_id = $1
        or (
            adapter.shared
            and adapter.name = alias.name
            and not exists (
                select 1 from adapter as own where own.tenant_id = $1 and own.name = $2
            )
        )
    )
order by alias.tenant_id = $1 desc
limit 1
