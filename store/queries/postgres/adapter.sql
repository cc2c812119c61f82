-- The caller's own adapter, or else the shared one of that name; with what the name leads to for the caller.
select
    adapter.tenant_id, adapter.name, adapter.shared, adapter.pinned,
    adapter.created_at, generation.id as "generation_id?", generation.firmware_id as "firmware_id?",
    generation.state as "state?", generation.created_at as "generation_created_at?",
    (generation.proof::json ->> 'resident_bytes')::bigint as "resident_bytes?",
    told.state as "told_state?", told.failure as "told_failure?"
from adapter
left join alias
    on alias.name = adapter.name
    and alias.tenant_id = coalesce(
        (select own.tenant_id from alias as own where own.tenant_id = $1 and own.name = adapter.name),
        adapter.tenant_id
    )
left join generation
    on generation.tenant_id = alias.tenant_id
    and generation.adapter_name = alias.adapter_name
    and generation.id = alias.generation_id
left join generation as told
    on told.seq = coalesce(
        generation.seq,
        (
            select max(newest.seq) from generation as newest
            where newest.tenant_id = adapter.tenant_id and newest.adapter_name = adapter.name
        )
    )
where adapter.name = $2 and (adapter.tenant_id = $1 or adapter.shared)
order by adapter.tenant_id = $1 desc
limit 1
