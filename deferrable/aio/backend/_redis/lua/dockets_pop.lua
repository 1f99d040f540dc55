-- Join the workers, make due items available, and take items into the working list.
-- In one step, because a consumer that takes without being known as alive loses what it takes.
--
-- KEYS: queue, delayed, payload, workers, own working list, own active key, paused, gaps
-- ARGV: now ('' for the server's), consumer id, '1' if it has not joined yet, heartbeat in ms,
--       heartbeat value, most items to take, most due items to move
-- Returns {0} if somebody reclaimed this consumer, {2, text of the pause} if there is one, else
--   {1, taken, delayed ids that have no payload, 1 if more is due, seconds until the next is due,
--    its id}; the last two are '' if none is delayed

local queue, delayed, payload, workers, working, active, paused, gaps = unpack(KEYS)
local now, id, is_first, heartbeat, value, count, most_due = unpack(ARGV)

if is_first ~= '1' and redis.call('SISMEMBER', workers, id) == 0 then
  return {0}
end
-- A full Redis denies SET as a script's first write, but not after this one.
redis.call('PEXPIRE', active, heartbeat)
redis.call('SET', active, value, 'PX', heartbeat)
redis.call('SADD', workers, id)

local pause = redis.call('GET', paused)
if pause and now ~= '' then
  -- The server's expiry does not follow an injected clock.
  local is_kept, kept = pcall(cjson.decode, pause)
  local until_time = is_kept and type(kept) == 'table' and tonumber(kept['until_time'])
  if until_time and until_time <= tonumber(now) then
    pause = false
  end
end
if pause then
  return {2, pause}
end

if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end

local missing = {}
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', string.format('%.6f', now),
  'LIMIT', 0, most_due)
if #due > 0 then
  local entries = redis.call('HMGET', payload, unpack(due))
  for index, entry in ipairs(entries) do
    if entry then
      redis.call('LPUSH', queue, entry)
    else
      missing[#missing + 1] = due[index]
    end
  end
  redis.call('ZREM', delayed, unpack(due))
  redis.call('HDEL', payload, unpack(due))
end

local taken, looked = {}, 0
while #taken < tonumber(count) and looked < 5000 do
  local entry = redis.call('LMOVE', queue, working, 'RIGHT', 'LEFT')
  if not entry then
    break
  end
  looked = looked + 1
  if entry == GAP then
    redis.call('LPOP', working)
    redis.call('DECR', gaps)
  else
    taken[#taken + 1] = entry
  end
end

local next_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local wait = ''
if next_due[2] then
  wait = string.format('%.6f', next_due[2] - now)
end
return {1, taken, missing, #due == tonumber(most_due) and 1 or 0, wait, next_due[1] or ''}
