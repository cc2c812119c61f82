delete from usage_hour
where ctid in (select ctid from usage_hour where hour < $1 order by hour limit $2)
