-- Count what waits. Due items are available: a pop would take them, behind what is in the list.
--
-- KEYS: queue, delayed, payload, workers, paused
-- ARGV: now ('' for the server's)
-- Returns {available, delayed, the available entry that is popped next or nil, consumer ids,
--   text of the pause or nil}

local queue, delayed, payload, workers, paused = unpack(KEYS)
local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
local due = redis.call('ZCOUNT', delayed, '-inf', string.format('%.6f', now))
local oldest = redis.call('LINDEX', queue, -1)
if not oldest and due > 0 then
  oldest = redis.call('HGET', payload, redis.call('ZRANGE', delayed, 0, 0)[1])
end
return {
  redis.call('LLEN', queue) + due,
  redis.call('ZCARD', delayed) - due,
  oldest,
  redis.call('SMEMBERS', workers),
  redis.call('GET', paused),
}
