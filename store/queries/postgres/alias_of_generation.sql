select name from alias
where tenant_id = $1 and adapter_name = $2 and generation_id = $3
order by name
limit 1
