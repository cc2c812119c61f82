select id, name, created_at from tenant where id > $1 order by id limit $2
