insert into generation (
    tenant_id, adapter_name, id, firmware_id, manifest, state_at, created_at
)
values ($1, $2, $3, $4, $5, $6, $6)
on conflict (tenant_id, adapter_name, id) do nothing
returning seq as "seq!"
