-- Nothing to take: the transaction holds the write lock.
select id from tenant where id = ?
