insert into batch (
    id, tenant_id, job_id, input_file_id, endpoint, completion_window, metadata, created_at, expires_at
)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, cast(unixepoch('subsec') * 1000000 as integer), cast(unixepoch('subsec') * 1000000 as integer) + ?8)
