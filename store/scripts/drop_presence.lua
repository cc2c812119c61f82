-- Ends a node's session; a later one stays.
-- KEYS: 1 presence, 2 leases
-- ARGV: 1 node, 2 epoch in twenty digits
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.sub(held, 1, 20) <= ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 0
