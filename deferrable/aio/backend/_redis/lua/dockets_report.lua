-- Keep what a worker reports, and drop reports that are old. Both keys end by themselves.
--
-- KEYS: reports, moments of the reports
-- ARGV: id of the worker, its report, now ('' for the server's), seconds that a report counts

local reports, moments = KEYS[1], KEYS[2]
local id, text, now, seconds = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
redis.call('HSET', reports, id, text)
redis.call('ZADD', moments, string.format('%.6f', now), id)
local bound = string.format('%.6f', now - seconds)
local old = redis.call('ZRANGEBYSCORE', moments, '-inf', bound, 'LIMIT', 0, 100)
if #old > 0 then
  redis.call('HDEL', reports, unpack(old))
  redis.call('ZREM', moments, unpack(old))
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, seconds * 1000)
end
