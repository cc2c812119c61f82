update join_token set uses = uses + 1 where id = ? and uses < uses_max
