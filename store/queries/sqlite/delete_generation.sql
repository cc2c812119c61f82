delete from generation where seq = ?
