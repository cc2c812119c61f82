select id, name, version, manifest, created_at from firmware where id = $1
