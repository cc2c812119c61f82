-- What failed is never loaded again as it is: it comes anew with its files or not at all.
select exists (
    select 1
    from generation_file
    join generation on generation.seq = generation_file.generation_seq
    where generation_file.sha256 = ? and generation.state <> 'failed'
) as "in_use!: bool"
