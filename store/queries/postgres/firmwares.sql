select id, name, version, created_at from firmware where id > $1 order by id limit $2
