delete from audit_entry
where id in (select id from audit_entry where at < ? order by at limit ?)
