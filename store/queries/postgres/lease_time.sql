-- The server's own clock, one for all processes; the caller's counts only where there is no other.
select coalesce((extract(epoch from now()) * 1000000)::bigint, $1::bigint) as "now!"
