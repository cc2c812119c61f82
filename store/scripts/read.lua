-- A stream's log from some index on.
-- KEYS: 1 the log's state, 2 its events
-- ARGV: 1 index, 2 now in ms
-- Returns: what it is, a number (the first index, the next, or whether it ended), the events
local held = redis.call('HMGET', KEYS[1], 'first', 'next', 'ended', 'expires')
if not held[1] or tonumber(held[4]) <= tonumber(ARGV[2])
  or redis.call('LLEN', KEYS[2]) ~= held[2] - held[1] then
  return {'unknown', 0, {}}
end
local index, first, following = tonumber(ARGV[1]), tonumber(held[1]), tonumber(held[2])
if index < first then
  return {'dropped', first, {}}
end
if index > following then
  return {'ahead', following, {}}
end
local events = redis.call('LRANGE', KEYS[2], string.format('%d', index - first), -1)
return {'events', tonumber(held[3]), events}
