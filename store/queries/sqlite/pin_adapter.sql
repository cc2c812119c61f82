update adapter set pinned = ? where tenant_id = ? and name = ?
