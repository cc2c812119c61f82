select manifest from generation where id = $1 limit 1
