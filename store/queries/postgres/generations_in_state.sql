-- Of every tenant, oldest first: what a start restores.
select seq, tenant_id, adapter_name, id, firmware_id, manifest, state, state_at, failure, proof, created_at
from generation
where state = $1 and seq > $2
order by seq
limit $3
