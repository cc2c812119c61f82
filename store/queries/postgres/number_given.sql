update tenant set adapters_numbered = adapters_numbered + 1 where id = $1
