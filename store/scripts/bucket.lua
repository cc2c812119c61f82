-- Takes from a token bucket, charges it, or gives back to it, as of the caller's time.
-- KEYS: 1 the bucket, 2 the birth of this server's memory
-- ARGV: 1 take, charge or refund, 2 cost, 3 capacity, 4 refill per second, 5 now in ms,
--       6 whether the server did not know this script
-- Returns: whether it was done, what is left, whether the bucket may have been fuller before a loss
local cost, capacity, refill = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = tonumber(ARGV[5])
local MEMORY_MS = 7 * 24 * 3600 * 1000 -- a birth that is forgotten is as a loss, which is safe

-- A server that knows no birth was flushed. One that does not know this script was started again or
-- took over from another: what it knows then may be old, and is not believed even if there is no memory
-- to write down when.
if ARGV[6] == '1' then
  redis.call('DEL', KEYS[2])
end
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local born = redis.call('GET', KEYS[2])
if not born then
  born = string.format('%d', clock)
  redis.call('SET', KEYS[2], born, 'PX', MEMORY_MS)
else
  redis.call('PEXPIRE', KEYS[2], MEMORY_MS)
end

-- Whatever was taken before the birth: this much has flowed in since.
local certain = math.min(capacity, math.max(0, clock - tonumber(born)) / 1000 * refill)
local held = redis.call('HMGET', KEYS[1], 'left', 'at', 'born')
local left, at = certain, now
if held[1] then
  local held_at = tonumber(held[2])
  at = math.max(now, held_at)
  left = math.min(capacity, tonumber(held[1]) + math.max(0, now - held_at) / 1000 * refill)
  if held[3] ~= born then
    left = math.min(left, certain)
  end
end

local recovering = certain < capacity and 1 or 0
if ARGV[1] == 'take' and cost > left then
  return {0, string.format('%.17g', left), recovering}
end
if ARGV[1] == 'refund' then
  left = math.min(capacity, left + cost)
else
  left = left - cost
end
redis.call('HSET', KEYS[1], 'left', string.format('%.17g', left),
  'at', string.format('%.17g', at), 'born', born)
-- A bucket that has refilled may be forgotten.
local full_ms = (capacity - left) / math.max(refill, 1e-9) * 1000 + (at - now) + 60000
redis.call('PEXPIRE', KEYS[1], string.format('%d', math.min(full_ms, MEMORY_MS)))
return {1, string.format('%.17g', left), recovering}
