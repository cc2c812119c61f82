insert into tenant (id, name, created_at) values ($1, $2, $3)
on conflict (id) do nothing
