-- Those of several generations at once; `seqs` is a JSON list.
select generation_seq, role, path, sha256, size_bytes
from generation_file
where generation_seq in (select value from json_each(?))
order by path
