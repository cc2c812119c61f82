update adapter set pinned = $1 where tenant_id = $2 and name = $3
