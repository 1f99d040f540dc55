-- Have a consumer be known as alive, right before it waits.
--
-- KEYS: workers, own active key, delayed
-- ARGV: consumer id, heartbeat in ms, heartbeat value
-- Returns {1 if it was no member of the workers, id of the next delayed item or ''}

-- A full Redis denies SET as a script's first write, but not after this one.
redis.call('PEXPIRE', KEYS[2], ARGV[2])
-- The heartbeat first: a member without one is taken for dead.
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
return {redis.call('SADD', KEYS[1], ARGV[1]), redis.call('ZRANGE', KEYS[3], 0, 0)[1] or ''}
