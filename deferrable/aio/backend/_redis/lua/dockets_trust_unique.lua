-- Note that the holder of a key was found, unless the key has another record by now.
--
-- KEYS: unique
-- ARGV: now ('' for the server's), key, its record, seconds for which this is trusted

local now, key, record, trusted = unpack(ARGV)
if now == '' then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1000000
else
  now = tonumber(now)
end
if redis.call('HGET', KEYS[1], key) == record then
  local time = string.match(record, '^%S+')
  -- A full Redis denies HSET as a script's first write, but not after this one.
  redis.call('HDEL', KEYS[1], key)
  redis.call('HSET', KEYS[1], key, record_of(time, now + trusted, holder_in(record)))
end
return 0
