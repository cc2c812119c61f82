select (cast(unixepoch('subsec') * 1000000 as integer) - created_at) as "age!: i64" from job where id = ?1
