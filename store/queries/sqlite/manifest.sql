select manifest from generation where id = ? limit 1
