insert into audit_entry (tenant_id, actor, action, object, detail, at) values (?, ?, ?, ?, ?, ?)
