-- Move entries out of one working list, each only if it is still there.
-- Texts are the client's: cjson would change them.
--
-- KEYS: working list, workers, active key of its consumer, queue, delayed, payload, errors, unique
-- ARGV: now ('' for the server's), consumer id,
--       'own', or 'dead' to move nothing unless that consumer is a member without a heartbeat, or
--       'outside' to move nothing unless it is no member and has no heartbeat;
--       this client's time, seconds for which the holder of a unique key is trusted;
--       then seven for each entry: old text, where to ('front', 'back', 'delayed', 'errors'),
--       new text, its id there, seconds of delay, its unique key ('' if it has none), the id of its
--       item
-- Returns {1 if the consumer is a member, 1 or 0 for each entry}, or {-1} for one that lives.

local working, workers, active, queue, delayed, payload, errors, unique = unpack(KEYS)
local now, id, whose, client_time, trusted = unpack(ARGV)

if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end

local is_member = redis.call('SISMEMBER', workers, id)
if whose ~= 'own' then
  local heartbeat = redis.call('GET', active)
  -- Under an injected clock the value is the moment at which the heartbeat ends.
  local is_alive = heartbeat and (heartbeat == '1' or tonumber(heartbeat) > now)
  if is_alive or is_member ~= (whose == 'dead' and 1 or 0) then
    return {-1}
  end
end

-- The key goes with its item. A search for the item that may have missed it finds another record.
local function move_key(where, delay, key, item_id)
  if where == 'errors' then
    free(unique, key, item_id)
  elseif holder_in(redis.call('HGET', unique, key)) == item_id then
    redis.call('HSET', unique, key, record_of(client_time + delay, now + trusted, item_id))
  end
end

local outcome = {is_member}
for first = 6, #ARGV, 7 do
  local old, where, new, key = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  local removed = redis.call('LREM', working, -1, old)
  if removed == 1 then
    if where == 'front' then
      redis.call('RPUSH', queue, new)
    elseif where == 'back' then
      redis.call('LPUSH', queue, new)
    elseif where == 'delayed' then
      redis.call('HSET', payload, key, new)
      redis.call('ZADD', delayed, string.format('%.6f', now + ARGV[first + 4]), key)
    else
      redis.call('HSET', errors, key, new)
    end
    if ARGV[first + 5] ~= '' then
      move_key(where, ARGV[first + 4], ARGV[first + 5], ARGV[first + 6])
    end
  end
  outcome[#outcome + 1] = removed
end

if whose == 'dead' and redis.call('LLEN', working) == 0 then
  redis.call('SREM', workers, id)
end
return outcome
