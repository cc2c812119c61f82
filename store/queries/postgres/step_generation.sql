update generation
set state = $1, state_at = $2, failure = $3, proof = coalesce($4, proof)
where seq = $5 and state = $6
