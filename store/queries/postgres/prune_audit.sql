delete from audit_entry
where id in (select id from audit_entry where at < $1 order by at limit $2)
