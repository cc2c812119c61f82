-- Renews a node's lease unless a later session of it has spoken.
-- KEYS: 1 presence (node: epoch and value), 2 leases (node by its lease's end)
-- ARGV: 1 node, 2 epoch in twenty digits, 3 value, 4 lease's end in ms, 5 now in ms, 6 lease in ms,
--       7 nodes at most
-- Returns: ok, full, or fenced and by which epoch
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.sub(held, 1, 20) > ARGV[2] then
  return {'fenced', string.sub(held, 1, 20)}
end
local limit = tonumber(ARGV[7])
if not held and redis.call('HLEN', KEYS[1]) >= limit then
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])) do
    redis.call('HDEL', KEYS[1], node)
    redis.call('ZREM', KEYS[2], node)
  end
  if redis.call('HLEN', KEYS[1]) >= limit then
    return {'full', ''}
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
-- Clocks may differ a little: the lease's end is what counts, this only clears up.
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < ARGV[6] + 60000 then
    redis.call('PEXPIRE', key, string.format('%d', ARGV[6] + 60000))
  end
end
return {'ok', ''}
