select name from alias
where tenant_id = ? and adapter_name = ? and generation_id = ?
order by name
limit 1
