select count(*) as "files!", coalesce(sum(size_bytes), 0)::bigint as "bytes!" from file where tenant_id = $1
