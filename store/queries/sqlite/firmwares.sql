select id, name, version, created_at from firmware where id > ? order by id limit ?
