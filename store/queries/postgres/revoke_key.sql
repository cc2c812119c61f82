update api_key set revoked_at = coalesce(revoked_at, $1) where tenant_id = $2 and id = $3
