-- Count what waits. Due items are available: a pop would take them, behind what is in the list.
--
-- KEYS: queue, delayed, payload, workers, paused, gaps
-- ARGV: now ('' for the server's)
-- Returns {available, delayed, the available entry that is popped next or nil, consumer ids,
--   text of the pause or nil}

local queue, delayed, payload, workers, paused, gaps = unpack(KEYS)
local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
local due = redis.call('ZCOUNT', delayed, '-inf', string.format('%.6f', now))
local oldest = redis.call('LINDEX', queue, -1)
local gap_count = math.max(0, tonumber(redis.call('GET', gaps) or 0))
-- A consumer of Python 2 does not count the gaps that it removes, so the number may be too high.
local waiting = math.max(redis.call('LLEN', queue) - gap_count, 0)
if oldest and oldest ~= GAP then
  waiting = math.max(waiting, 1)
elseif oldest then
  oldest = nil
end
if not oldest and due > 0 then
  oldest = redis.call('HGET', payload, redis.call('ZRANGE', delayed, 0, 0)[1])
end
return {
  waiting + due,
  redis.call('ZCARD', delayed) - due,
  oldest,
  redis.call('SMEMBERS', workers),
  redis.call('GET', paused),
}
