-- Of every tenant, oldest first: what a start restores.
select seq, tenant_id, adapter_name, id, firmware_id, manifest, state, state_at, failure, proof, created_at
from generation
where state = ? and seq > ?
order by seq
limit ?
