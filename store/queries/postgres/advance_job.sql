-- Work that gets on starts its attempts anew.
update job set checkpoint = coalesce($1, checkpoint), attempt = 0 where id = $2
