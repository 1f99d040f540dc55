-- Look whether the item that holds a unique key is still there.
--
-- KEYS: unique, queue, delayed, payload, workers; then a working list for each consumer
-- ARGV: now ('' for the server's), key, its record, the item's id as JSON, seconds for which what is
--       found is trusted, most entries to look at, their most bytes, '1' if all consumers are named
--       that are not among the workers, too; then the ids of the consumers
-- Returns 'there', 'gone', 'changed' (the record is another one), 'workers' (some are not named), or
--   'unsure' (it was not found, and not everything was looked at).

local unique, queue, delayed, payload, workers = unpack(KEYS)
local now, key, record, needle, trusted = unpack(ARGV)
local most, most_bytes, is_all = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
if now == '' then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1000000
else
  now = tonumber(now)
end
if redis.call('HGET', unique, key) ~= record then
  return 'changed'
end
local time, id = string.match(record, '^(%S+) %S+ (.*)$')

local function there()
  -- A full Redis denies HSET as a script's first write, but not after this one.
  redis.call('HDEL', unique, key)
  redis.call('HSET', unique, key, record_of(time, now + trusted, id))
  return 'there'
end

if redis.call('ZSCORE', delayed, id) and redis.call('HEXISTS', payload, id) == 1 then
  return there()
end

local seen, bytes = 0, 0

local function is_it(text)
  bytes = bytes + #text
  return string.find(text, needle, 1, true) and string.find(text, key, 1, true)
end

-- True: it is there; nil: there was too much to look at.
local function is_in_list(name)
  local start = 0
  repeat
    local page = redis.call('LRANGE', name, start, start + 19)
    for _, text in ipairs(page) do
      if is_it(text) then
        return true
      end
    end
    start = start + #page
    seen = seen + #page
    if seen > most or bytes > most_bytes then
      return nil
    end
  until #page < 20
  return false
end

-- A consumer of the Python 2 library delays a copy under another id.
local function is_delayed()
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', payload, cursor, 'COUNT', 20)
    for index = 2, #page[2], 2 do
      if is_it(page[2][index]) then
        return true
      end
    end
    seen = seen + #page[2] / 2
    if seen > most or bytes > most_bytes then
      return nil
    end
    cursor = page[1]
  until cursor == '0'
  return false
end

local has_seen_all = redis.call('LLEN', queue) + redis.call('HLEN', payload) <= most
if has_seen_all then
  for _, look in ipairs({is_delayed, function() return is_in_list(queue) end}) do
    local answer = look()
    if answer then
      return there()
    end
    has_seen_all = has_seen_all and answer ~= nil
  end
else
  -- The oldest entry leaves first. If it was pushed before the holder, the holder waits behind it.
  local oldest = string.match(redis.call('LINDEX', queue, -1) or '', '"ts":%s*([%d%.]+)')
  if oldest and tonumber(oldest) and tonumber(oldest) <= tonumber(time) then
    return there()
  end
end

local named = {}
for index = 9, #ARGV do
  named[ARGV[index]] = true
end
for _, consumer in ipairs(redis.call('SMEMBERS', workers)) do
  if not named[consumer] then
    return 'workers'
  end
end
for index = 9, #ARGV do
  local answer = is_in_list(KEYS[index - 3])
  if answer then
    return there()
  end
  has_seen_all = has_seen_all and answer ~= nil
end
return has_seen_all and is_all and 'gone' or 'unsure'
