select distinct generation_file.sha256 as "sha256!"
from generation
join generation_file on generation_file.generation_seq = generation.seq
where generation.tenant_id = $1 and generation.adapter_name = $2
