select (micros_now() - created_at) as "age!" from job where id = $1
