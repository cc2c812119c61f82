-- Two look-ups read a whole table, because the keys begin with the tenant: a name that may be another tenant's shared adapter,
-- which is in almost every request, and a generation by its digest alone, as callers and nodes name it.

create index alias_name on alias (name);
create index generation_id on generation (id);
