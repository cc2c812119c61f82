-- By its id alone, among the adapters that the caller may use. The same files may be several adapters': an own one comes
-- first, and one that answers before one that does not.
select
    generation.seq, generation.tenant_id, generation.adapter_name, generation.id,
    generation.firmware_id, generation.manifest, generation.state, generation.state_at,
    generation.failure, generation.proof, generation.created_at
from generation
join adapter on adapter.tenant_id = generation.tenant_id and adapter.name = generation.adapter_name
where generation.id = $2
    and (
        adapter.tenant_id = $1
        or (
            adapter.shared
            and not exists (
                select 1 from adapter as own where own.tenant_id = $1 and own.name = adapter.name
            )
        )
    )
order by adapter.tenant_id = $1 desc, generation.state = 'serving' desc, generation.seq desc
limit 1
