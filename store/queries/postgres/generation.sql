-- Of the adapter that the caller means by this name: the own one, or else the shared one.
select
    generation.seq, generation.tenant_id, generation.adapter_name, generation.id,
    generation.firmware_id, generation.manifest, generation.state, generation.state_at,
    generation.failure, generation.proof, generation.created_at
from generation
join adapter on adapter.tenant_id = generation.tenant_id and adapter.name = generation.adapter_name
where generation.adapter_name = $2
    and generation.id = $3
    and adapter.tenant_id = (
        select meant.tenant_id
        from adapter as meant
        where meant.name = $2 and (meant.tenant_id = $1 or meant.shared)
        order by meant.tenant_id = $1 desc
        limit 1
    )
