-- Its number is the tenant's next one; `number_given.sql` follows.
insert into adapter (tenant_id, name, created_at, number)
values ($1, $2, $3, (select adapters_numbered from tenant where id = $1))
on conflict (tenant_id, name) do nothing
