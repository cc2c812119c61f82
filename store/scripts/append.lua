-- Appends an event to a stream's log; drops the log's oldest events, then the quietest logs.
-- KEYS: 1 the log's state, 2 its events, 3 all logs by their lease's end
-- ARGV: 1 stream, 2 index, 3 event, 4 lease's end in ms, 5 now in ms, 6 lease in ms,
--       7 bytes of a log at most, 8 logs at most, 9 bytes that an event costs beside its own,
--       10 what the names of all states, 11 and of all events begin with
-- Returns: whether it was done, the index that was expected
local OVERHEAD, now = tonumber(ARGV[9]), tonumber(ARGV[5])
local function forget(stream)
  redis.call('DEL', ARGV[10] .. stream, ARGV[11] .. stream)
  redis.call('ZREM', KEYS[3], stream)
end

local first, following, bytes, ended = 0, 0, 0, false
local held = redis.call('HMGET', KEYS[1], 'first', 'next', 'bytes', 'ended', 'expires')
if held[1] then
  if tonumber(held[5]) > now and redis.call('LLEN', KEYS[2]) == held[2] - held[1] then
    first, following, bytes = tonumber(held[1]), tonumber(held[2]), tonumber(held[3])
    ended = held[4] == '1'
  else
    forget(ARGV[1])
  end
end
if tonumber(ARGV[2]) ~= following or ended then
  return {0, following}
end

redis.call('RPUSH', KEYS[2], ARGV[3])
following, bytes = following + 1, bytes + #ARGV[3] + OVERHEAD
while bytes > tonumber(ARGV[7]) do
  bytes = bytes - #redis.call('LPOP', KEYS[2]) - OVERHEAD
  first = first + 1
end
redis.call('HSET', KEYS[1], 'first', first, 'next', following, 'bytes', bytes, 'ended', '0',
  'expires', ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
local lease_ms = string.format('%d', ARGV[6] + 60000)
redis.call('PEXPIRE', KEYS[1], lease_ms)
redis.call('PEXPIRE', KEYS[2], lease_ms)
if redis.call('PTTL', KEYS[3]) < tonumber(lease_ms) then
  redis.call('PEXPIRE', KEYS[3], lease_ms)
end

for _, stream in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[5], 'LIMIT', 0, 100)) do
  forget(stream)
end
while redis.call('ZCARD', KEYS[3]) > tonumber(ARGV[8]) do
  forget(redis.call('ZRANGE', KEYS[3], 0, 0)[1])
end
return {1, following}
