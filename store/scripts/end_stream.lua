-- Marks a stream complete, if there is one.
-- KEYS: 1 the log's state
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'ended', '1')
end
return 0
