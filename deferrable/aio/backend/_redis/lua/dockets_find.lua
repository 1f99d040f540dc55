-- Find the entries whose text contains something, wherever they are, in one step.
--
-- KEYS: queue, delayed, payload, workers, mark of a cancelled item; then a working list for each
--       consumer
-- ARGV: now ('' for the server's), the text, most entries to look at, most bytes to look at; then
--       the ids of the consumers
-- Returns {'found', then place, id, text, due time for each}; or {'workers'} if there are others;
--   or {'many'} if this is too much for one step.

local queue, delayed, payload, workers, mark = unpack(KEYS)
local now, needle, most, most_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end

local known = {}
for index = 5, #ARGV do
  known[ARGV[index]] = true
end
for _, id in ipairs(redis.call('SMEMBERS', workers)) do
  if not known[id] then
    return {'workers'}
  end
end
if redis.call('LLEN', queue) + redis.call('HLEN', payload) > most then
  return {'many'}
end

local reply = {'found'}
local seen, bytes = 0, 0

local function look(place, id, text, due)
  bytes = bytes + #text
  if string.find(text, needle, 1, true) then
    for _, value in ipairs({place, id, text, due}) do
      reply[#reply + 1] = value
    end
  end
end

-- False: it is too much for one step.
local function look_at_list(key, place, id)
  local start = 0
  repeat
    local page = redis.call('LRANGE', key, start, start + 19)
    for _, text in ipairs(page) do
      look(place, id, text, '')
    end
    start = start + #page
    seen = seen + #page
    if seen > most or bytes > most_bytes then
      return false
    end
  until #page < 20
  return true
end

local cursor = '0'
repeat
  local page = redis.call('HSCAN', payload, cursor, 'COUNT', 20)
  local entries = page[2]
  for first = 1, #entries, 2 do
    local due = redis.call('ZSCORE', delayed, entries[first])
    if due then
      look(tonumber(due) > now and 'delayed' or 'due', entries[first], entries[first + 1], due)
    end
  end
  seen = seen + #entries / 2
  if seen > most or bytes > most_bytes then
    return {'many'}
  end
  cursor = page[1]
until cursor == '0'
if not look_at_list(queue, 'queued', '') then
  return {'many'}
end
for index = 5, #ARGV do
  if not look_at_list(KEYS[index + 1], 'in flight', ARGV[index]) then
    return {'many'}
  end
end
if #reply == 1 and redis.call('EXISTS', mark) == 1 then
  return {'found', 'cancelled', '', '', ''}
end
return reply
