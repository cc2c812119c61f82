-- Holds back every other transaction that changes this tenant's adapters, generations or aliases; not those that only
-- refer to the tenant, such as a new key.
select id from tenant where id = $1 for no key update
