-- Do something about leased errors, each only while the lease is still the caller's.
--
-- KEYS: errors, leases, queue, delayed, payload, unique
-- ARGV: now ('' for the server's), this client's time, seconds for which the holder of a unique key
--       is trusted; then nine for each error: its id, end of the lease, what to do
--       ('lease', 'free', 'remove', 'mend', 'back', 'delayed', 'errors'), text, its id there,
--       new end of the lease or seconds of delay, the unique key that it takes back (''), the
--       record of a holder of that key that is known to be gone (''), the id of its item.
--       Ends are several, with commas, where the answer to a touch was lost: any of them may be it.
-- Returns for each 1, or 0 if it is not the caller's, or -1 if there is no such error, or why it
--   cannot have its key, see `refusal`; then nothing was done.

local errors, leases, queue, delayed, payload, unique = unpack(KEYS)
local now, client_time, trusted = unpack(ARGV)
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

local function settle(id, ends, verb, text, key, number, unique_key, gone, item_id)
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
  local refused = refusal(unique, unique_key, gone, now)
  if refused then
    return refused
  end
  redis.call('ZREM', leases, id)
  if verb == 'free' then
    return 1
  end
  redis.call('HDEL', errors, id)
  if unique_key ~= '' then
    redis.call('HSET', unique, unique_key, record_of(client_time + number, now + trusted, item_id))
  end
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
for first = 4, #ARGV, 9 do
  outcome[#outcome + 1] = settle(unpack(ARGV, first, first + 8))
end
return outcome
