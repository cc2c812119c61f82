select role, path, sha256, size_bytes from generation_file where generation_seq = ? order by path
