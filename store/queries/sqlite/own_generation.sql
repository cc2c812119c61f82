select seq, tenant_id, adapter_name, id, firmware_id, manifest, state, state_at, failure, proof, created_at
from generation
where tenant_id = ? and adapter_name = ? and id = ?
