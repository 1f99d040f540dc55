-- Lease errors that nobody has leased, looking on from a cursor.
--
-- KEYS: errors, leases
-- ARGV: now ('' for the server's), seconds of lease, most errors to lease, cursor, most to look at
-- Returns {cursor to go on from, now, end of the leases, id, value, id, value, ...}

local errors, leases = unpack(KEYS)
local now, seconds, count, cursor, most = unpack(ARGV)
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end
count, most = tonumber(count), tonumber(most)

-- The end of a lease is also what its holder proves it with, so it is one text everywhere.
local lease_end = string.format('%.6f', now + seconds)
redis.call('ZREMRANGEBYSCORE', leases, '-inf', string.format('%.6f', now))

local taken = {}
local seen = 0
repeat
  local page = redis.call('HSCAN', errors, cursor, 'COUNT', 100)
  local entries = page[2]
  for first = 1, #entries, 2 do
    if not redis.call('ZSCORE', leases, entries[first]) then
      if #taken == 2 * count then
        -- More of this page is free: come back to it.
        return {cursor, string.format('%.6f', now), lease_end, unpack(taken)}
      end
      redis.call('ZADD', leases, lease_end, entries[first])
      taken[#taken + 1] = entries[first]
      taken[#taken + 1] = entries[first + 1]
    end
  end
  seen = seen + #entries / 2
  cursor = page[1]
until cursor == '0' or #taken == 2 * count or seen >= most
return {cursor, string.format('%.6f', now), lease_end, unpack(taken)}
