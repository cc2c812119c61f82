-- Replaces the routing snapshot unless a later leader has published.
-- KEYS: 1 routing
-- ARGV: 1 version, 2 snapshot, 3 how long it is kept, in ms, 4 the leader's epoch in twenty digits
-- Returns: the epoch of the latest leader
local leader = redis.call('HGET', KEYS[1], 'leader')
if leader and leader > ARGV[4] then
  return leader
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'snapshot', ARGV[2], 'leader', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return ARGV[4]
