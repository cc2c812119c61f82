update adapter set shared = $1 where tenant_id = $2 and name = $3
