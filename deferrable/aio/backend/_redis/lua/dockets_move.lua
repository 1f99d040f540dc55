-- Move entries out of one working list, each only if it is still there.
-- Texts are the client's: cjson would change them.
--
-- KEYS: working list, workers, active key of its consumer, queue, delayed, payload, errors
-- ARGV: now ('' for the server's), consumer id,
--       'own', or 'dead' to move nothing unless that consumer is a member without a heartbeat, or
--       'outside' to move nothing unless it is no member and has no heartbeat;
--       then five for each entry: old text, where to ('front', 'back', 'delayed', 'errors'),
--       new text, its id there, seconds of delay
-- Returns {1 if the consumer is a member, 1 or 0 for each entry}, or {-1} for one that lives.

local working, workers, active, queue, delayed, payload, errors = unpack(KEYS)
local now, id, whose = ARGV[1], ARGV[2], ARGV[3]

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

local outcome = {is_member}
for first = 4, #ARGV, 5 do
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
  end
  outcome[#outcome + 1] = removed
end

if whose == 'dead' and redis.call('LLEN', working) == 0 then
  redis.call('SREM', workers, id)
end
return outcome
