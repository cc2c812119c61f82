select generation_id from alias where tenant_id = ? and name = ?
