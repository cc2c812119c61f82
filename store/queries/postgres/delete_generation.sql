delete from generation where seq = $1
