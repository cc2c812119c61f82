update api_key set revoked_at = coalesce(revoked_at, ?) where tenant_id = ? and id = ?
