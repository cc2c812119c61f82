-- Replaces the routing snapshot.
-- KEYS: 1 routing
-- ARGV: 1 version, 2 snapshot, 3 how long it is kept, in ms
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'snapshot', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 0
