insert into audit_entry (tenant_id, actor, action, object, detail, at) values ($1, $2, $3, $4, $5, $6)
