-- Count the errors, and those of them that are leased.
--
-- KEYS: errors, leases
-- ARGV: now ('' for the server's)

local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
local total = redis.call('HLEN', KEYS[1])
local leased = redis.call('ZCOUNT', KEYS[2], string.format('(%.6f', now), '+inf')
return {total, math.min(total, leased)}
