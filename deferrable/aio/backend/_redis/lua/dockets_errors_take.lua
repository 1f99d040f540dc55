-- Lease chosen errors that nobody has leased.
--
-- KEYS: errors, leases
-- ARGV: now ('' for the server's), seconds of lease, error id, ...
-- Returns {now, end of the leases, value or nothing, ...}, a value for each id in their order

local errors, leases = unpack(KEYS)
local now, seconds = ARGV[1], ARGV[2]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end

local lease_end = string.format('%.6f', now + seconds)
redis.call('ZREMRANGEBYSCORE', leases, '-inf', string.format('%.6f', now))

local reply = {string.format('%.6f', now), lease_end}
for index = 3, #ARGV do
  local id = ARGV[index]
  local value = redis.call('HGET', errors, id)
  if value and redis.call('ZSCORE', leases, id) then
    value = false
  end
  if value then
    redis.call('ZADD', leases, lease_end, id)
  end
  reply[index] = value
end
return reply
