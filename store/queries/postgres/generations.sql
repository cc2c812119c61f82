-- Newest first.
select seq, tenant_id, adapter_name, id, firmware_id, manifest, state, state_at, failure, proof, created_at
from generation
where tenant_id = $1 and adapter_name = $2 and seq < $3
order by seq desc
limit $4
