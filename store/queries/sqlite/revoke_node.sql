update node set revoked_at = coalesce(revoked_at, ?) where tenant_id = ? and id = ?
