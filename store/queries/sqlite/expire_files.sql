delete from file
where id in (select id from file where expires_at <= cast(unixepoch('subsec') * 1000000 as integer) order by expires_at limit ?1)
returning sha256 as "sha256!: Vec<u8>"
