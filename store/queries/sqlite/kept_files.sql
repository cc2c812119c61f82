select count(*) as "files!: i64", coalesce(sum(size_bytes), 0) as "bytes!: i64" from file where tenant_id = ?1
