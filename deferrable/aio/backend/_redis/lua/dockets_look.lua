-- Look at a page of a list or of a hash, without changing it.
--
-- KEYS: the list or the hash; for the delayed items also their sorted set
-- ARGV: now ('' for the server's), 'list' or 'hash', cursor, about how many to look at, a text that
--       shown entries contain ('': all are shown)
-- Returns {cursor to go on from ('' at the end), entries looked at, their bytes, now; then for each
--   shown entry its id (of a list: its place), due time ('' if it has none), text}.

local now, kind, cursor, count, needle = unpack(ARGV)
if now == '' then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
else
  now = tonumber(now)
end

local reply = {'', 0, 0, string.format('%.6f', now)}

local function look(id, text)
  reply[2] = reply[2] + 1
  reply[3] = reply[3] + #text
  if needle == '' or string.find(text, needle, 1, true) then
    reply[#reply + 1] = id
    reply[#reply + 1] = KEYS[2] and redis.call('ZSCORE', KEYS[2], id) or ''
    reply[#reply + 1] = text
  end
end

if kind == 'list' then
  local page = redis.call('LRANGE', KEYS[1], cursor, cursor + count - 1)
  for place, text in ipairs(page) do
    look(tostring(cursor + place - 1), text)
  end
  if #page == tonumber(count) then
    reply[1] = tostring(cursor + count)
  end
else
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', count)
  for first = 1, #page[2], 2 do
    look(page[2][first], page[2][first + 1])
  end
  if page[1] ~= '0' then
    reply[1] = page[1]
  end
end
return reply
