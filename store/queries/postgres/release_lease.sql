update lease set holder = '', expires_at = 0 where name = $1 and holder = $2 and epoch = $3
