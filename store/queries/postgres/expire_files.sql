delete from file
where id in (select id from file where expires_at <= micros_now() order by expires_at limit $1)
returning sha256
