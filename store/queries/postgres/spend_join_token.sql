update join_token set uses = uses + 1 where id = $1 and uses < uses_max
