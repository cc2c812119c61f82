-- Those of several generations at once; `seqs` is a JSON list.
select generation_seq, role, path, sha256, size_bytes
from generation_file
where generation_seq = any (array(select value::bigint from json_array_elements_text($1::text::json)))
order by path
