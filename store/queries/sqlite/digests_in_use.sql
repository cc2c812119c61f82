-- Of these digests, a JSON list in hexadecimal, those that a generation's file has.
select distinct sha256 from generation_file where sha256 in (select unhex(value) from json_each(?))
