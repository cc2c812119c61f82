insert into tenant (id, name, created_at) values (?, ?, ?)
on conflict (id) do nothing
