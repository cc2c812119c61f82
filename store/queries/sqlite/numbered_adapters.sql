-- Those whose own name leads to a generation.
select adapter.number as "number!: i64", adapter.name
from adapter
join alias on alias.tenant_id = adapter.tenant_id and alias.name = adapter.name
where adapter.tenant_id = ? and adapter.number > ?
order by adapter.number
limit ?
