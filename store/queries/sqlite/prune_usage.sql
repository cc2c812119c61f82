delete from usage_hour
where rowid in (select rowid from usage_hour where hour < ? order by hour limit ?)
