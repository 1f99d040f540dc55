-- Push items, each only if nobody else holds its unique key.
--
-- KEYS: queue, delayed, payload, unique
-- ARGV: now ('' for the server's), the producer's time, seconds for which a new holder is trusted;
--       then five for each item: unique key ('' if it has none), the record of a holder that is
--       known to be gone (''), its id among the delayed ones and in the record, seconds of delay,
--       text
-- Returns for each {1}, or {0, id of the holder}, or {-1, record} if it is to be checked.

local queue, delayed, payload, unique = unpack(KEYS)
local now, time, trusted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if now == '' then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1000000
else
  now = tonumber(now)
end

local outcomes = {}
for first = 4, #ARGV, 5 do
  local key, gone, id, delay, text = unpack(ARGV, first, first + 4)
  delay = tonumber(delay)
  local refused = refusal(unique, key, gone, now)
  if not refused then
    if key ~= '' then
      redis.call('HSET', unique, key, record_of(time + delay, now + trusted, id))
    end
    if delay > 0 then
      redis.call('HSET', payload, id, text)
      redis.call('ZADD', delayed, string.format('%.6f', now + delay), id)
    else
      redis.call('LPUSH', queue, text)
    end
  end
  outcomes[#outcomes + 1] = refused or {1}
end
return outcomes
