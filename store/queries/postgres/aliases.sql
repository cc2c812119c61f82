select
    alias.tenant_id, alias.name, alias.adapter_name, alias.generation_id, generation.firmware_id,
    generation.created_at as generation_created_at, alias.revision, alias.updated_at
from alias
join generation
    on generation.tenant_id = alias.tenant_id
    and generation.adapter_name = alias.adapter_name
    and generation.id = alias.generation_id
where alias.tenant_id = $1 and alias.name > $2
order by alias.name
limit $3
