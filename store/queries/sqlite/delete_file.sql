delete from file where tenant_id = ?1 and id = ?2 returning sha256 as "sha256!: Vec<u8>"
