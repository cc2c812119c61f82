-- A gateway says that it is there, and learns how many there are and where work is routed.
-- KEYS: 1 gateways by when they spoke, 2 the birth of this server's memory, 3 routing
-- ARGV: 1 this gateway, 2 how long a silent one counts, in ms, 3 the version of routing that it has
-- Returns: gateways, whether all had time to speak since the birth, version, the leader's epoch, the
--          snapshot if it is another
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], clock, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', clock - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local count = redis.call('ZCARD', KEYS[1])
local born = redis.call('GET', KEYS[2])
local settled = born and clock - tonumber(born) > tonumber(ARGV[2]) and 1 or 0
local version = redis.call('HGET', KEYS[3], 'version') or ''
local leader = redis.call('HGET', KEYS[3], 'leader') or '0'
local snapshot = ''
if version ~= '' and version ~= ARGV[3] then
  snapshot = redis.call('HGET', KEYS[3], 'snapshot')
end
return {count, settled, version, leader, snapshot}
