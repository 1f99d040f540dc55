-- The reports of workers that are not old.
--
-- KEYS: reports, moments of the reports
-- ARGV: now ('' for the server's), seconds that a report counts, the most of them
-- Returns {id, how many seconds old it is, its report} for each, one after another.

local reports, moments = KEYS[1], KEYS[2]
local now, seconds, most = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
local bound = string.format('(%.6f', now - seconds)
local found = redis.call(
  'ZRANGEBYSCORE', moments, bound, '+inf', 'WITHSCORES', 'LIMIT', 0, most
)
local shown = {}
for index = 1, #found, 2 do
  local text = redis.call('HGET', reports, found[index])
  if text then
    shown[#shown + 1] = found[index]
    shown[#shown + 1] = string.format('%.6f', now - tonumber(found[index + 1]))
    shown[#shown + 1] = text
  end
end
return shown
