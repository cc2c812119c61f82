-- Of these digests, a JSON list in hexadecimal, those that a generation's file has. What failed is never
-- loaded again as it is: it comes anew with its files or not at all.
select distinct generation_file.sha256
from generation_file
join generation on generation.seq = generation_file.generation_seq
where generation_file.sha256 = any (
    array(select decode(value, 'hex') from json_array_elements_text($1::text::json))
)
and generation.state <> 'failed'
