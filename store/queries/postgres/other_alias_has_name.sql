-- Whether the name answers for an adapter that does not bear it.
select exists (
    select 1 from alias where tenant_id = $1 and name = $2 and adapter_name <> $2
) as "taken!"
