-- Store delayed items; each becomes available by the clock that reads it, the server's.
--
-- KEYS: delayed, payload
-- ARGV: now ('' for the server's), then three for each item: its id here, seconds of delay, text

local delayed, payload = unpack(KEYS)
local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
for first = 2, #ARGV, 3 do
  redis.call('HSET', payload, ARGV[first], ARGV[first + 2])
  redis.call('ZADD', delayed, string.format('%.6f', now + ARGV[first + 1]), ARGV[first])
end
return (#ARGV - 1) / 3
