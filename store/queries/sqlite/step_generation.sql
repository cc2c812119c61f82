update generation
set state = ?, state_at = ?, failure = ?, proof = coalesce(?, proof)
where seq = ? and state = ?
