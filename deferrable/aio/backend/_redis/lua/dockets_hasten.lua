-- Make a delayed item available now, if it is still delayed.
--
-- KEYS: queue, delayed, payload
-- ARGV: its text, its id among the delayed ones, its text from now on
-- Returns 1, or 0 if it is not there any more.

if redis.call('HGET', KEYS[3], ARGV[2]) ~= ARGV[1] or redis.call('ZREM', KEYS[2], ARGV[2]) == 0 then
  return 0
end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('LPUSH', KEYS[1], ARGV[3])
return 1
