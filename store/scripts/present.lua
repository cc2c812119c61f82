-- The nodes whose leases have not ended.
-- KEYS: 1 presence, 2 leases
-- ARGV: 1 now in ms
-- Returns: node, epoch and value, node, ...
local present = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf')) do
  local held = redis.call('HGET', KEYS[1], node)
  if held then
    present[#present + 1] = node
    present[#present + 1] = held
  end
end
return present
