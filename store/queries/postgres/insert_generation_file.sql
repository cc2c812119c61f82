insert into generation_file (generation_seq, role, path, sha256, size_bytes)
values ($1, $2, $3, $4, $5)
