-- All that the caller may use; an own adapter hides a shared one of the same name.
select tenant_id, name, shared as "shared!: bool", created_at
from adapter
where name > ?2
    and (
        tenant_id = ?1
        or (
            shared = 1
            and not exists (
                select 1 from adapter as own where own.tenant_id = ?1 and own.name = adapter.name
            )
        )
    )
order by name
limit ?3
