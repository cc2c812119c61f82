update adapter set shared = ? where tenant_id = ? and name = ?
