insert into firmware (id, name, version, manifest, created_at) values (?, ?, ?, ?, ?)
on conflict (id) do nothing
