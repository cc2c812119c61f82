select tenant_id, name, adapter_name, generation_id, revision, updated_at
from alias
where tenant_id = ? and name = ?
