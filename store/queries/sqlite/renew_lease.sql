-- One that ran out and that nobody took meanwhile is as good as one that did not.
update lease set expires_at = ?4 where name = ?1 and holder = ?2 and epoch = ?3
