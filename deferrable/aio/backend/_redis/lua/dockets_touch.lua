-- Renew a consumer's heartbeat, if nobody has reclaimed it meanwhile.
--
-- KEYS: workers, own active key, wanted stops
-- ARGV: consumer id, heartbeat in ms, heartbeat value
-- Returns {1, SHA1 of the entries whose jobs are to be stopped}, or {0} if it is no member any more:
--   then all that it held is lost.

if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then
  return {0}
end
-- A full Redis denies SET as a script's first write, but not after this one.
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
local answer = redis.call('SMEMBERS', KEYS[3])
table.insert(answer, 1, 1)
return answer
