-- A file that several generations have is kept once; those of a generation that failed are not kept.
select
    (select count(*) from adapter where tenant_id = $1) as "adapters!",
    (select count(*) from alias where tenant_id = $1) as "aliases!",
    (
        select coalesce(sum(size_bytes), 0)::bigint
        from (
            select distinct generation_file.sha256, generation_file.size_bytes
            from generation
            join generation_file on generation_file.generation_seq = generation.seq
            where generation.tenant_id = $1 and generation.state <> 'failed'
        ) as file
    ) as "file_bytes!"
