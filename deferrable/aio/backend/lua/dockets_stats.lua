-- Count what waits. Due items are available: a pop would take them.
--
-- KEYS: queue, delayed, workers
-- ARGV: now ('' for the server's)
-- Returns {available, delayed, consumer ids}

local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
local due = redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.6f', now))
return {
  redis.call('LLEN', KEYS[1]) + due,
  redis.call('ZCARD', KEYS[2]) - due,
  redis.call('SMEMBERS', KEYS[3]),
}
