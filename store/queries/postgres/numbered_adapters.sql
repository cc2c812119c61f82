-- Those whose own name leads to a generation.
select adapter.number as "number!", adapter.name
from adapter
join alias on alias.tenant_id = adapter.tenant_id and alias.name = adapter.name
where adapter.tenant_id = $1 and adapter.number > $2
order by adapter.number
limit $3
