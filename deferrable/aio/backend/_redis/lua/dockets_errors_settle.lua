-- Do something about leased errors, each only while the lease is still the caller's.
--
-- KEYS: errors, leases, queue, delayed, payload
-- ARGV: now ('' for the server's), then six for each error: its id, end of the lease, what to do
--       ('lease', 'free', 'remove', 'mend', 'back', 'delayed', 'errors'), text, its id there,
--       new end of the lease or seconds of delay.
--       Ends are several, with commas, where the answer to a touch was lost: any of them may be it.
-- Returns for each 1, or 0 if it is not the caller's, or -1 if there is no such error.

local errors, leases, queue, delayed, payload = unpack(KEYS)
local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end

local function is_one_of(score, ends)
  for text in string.gmatch(ends, '[^,]+') do
    if score == tonumber(text) then
      return true
    end
  end
  return false
end

local function settle(id, ends, verb, text, key, number)
  if redis.call('HEXISTS', errors, id) == 0 then
    return -1
  end
  local score = tonumber(redis.call('ZSCORE', leases, id) or -1)
  if not is_one_of(score, ends) then
    return 0
  end
  if verb == 'lease' then
    redis.call('ZADD', leases, number, id)
    return 1
  end
  if verb == 'mend' then
    redis.call('HSET', errors, id, text)
    return 1
  end
  if verb == 'free' and tonumber(number) > 0 then
    redis.call('ZADD', leases, string.format('%.6f', now + number), id)
    return 1
  end
  redis.call('ZREM', leases, id)
  if verb == 'free' then
    return 1
  end
  redis.call('HDEL', errors, id)
  if verb == 'back' then
    redis.call('LPUSH', queue, text)
  elseif verb == 'delayed' then
    redis.call('HSET', payload, key, text)
    redis.call('ZADD', delayed, string.format('%.6f', now + number), key)
  elseif verb == 'errors' then
    redis.call('HSET', errors, key, text)
  end
  return 1
end

-- This removes nothing. A full Redis denies ZADD and HSET as a script's first write, but not after
-- this one.
redis.call('ZREMRANGEBYRANK', leases, 1, 0)

local outcome = {}
for first = 2, #ARGV, 6 do
  outcome[#outcome + 1] = settle(unpack(ARGV, first, first + 5))
end
return outcome
