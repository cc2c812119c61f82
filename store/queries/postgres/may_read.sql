-- A manifest's digest or a file's, of an adapter of the tenant's own or a shared one.
select exists (
    select 1
    from generation
    join adapter on adapter.tenant_id = generation.tenant_id and adapter.name = generation.adapter_name
    where generation.id = $2 and (adapter.tenant_id = $1 or adapter.shared)
    union all
    select 1
    from generation_file
    join generation on generation.seq = generation_file.generation_seq
    join adapter on adapter.tenant_id = generation.tenant_id and adapter.name = generation.adapter_name
    where generation_file.sha256 = $2 and (adapter.tenant_id = $1 or adapter.shared)
) as "may_read!"
