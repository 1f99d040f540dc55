-- Remove an item that no consumer holds, if it is still where it was seen, and leave a mark.
--
-- KEYS: queue, delayed, payload, mark, unique, gaps
-- ARGV: its text, its id among the delayed ones ('' if it is not one of them), its place in the list
--       when it was seen, seconds that the mark lasts (0: none), its unique key ('' if it has none),
--       the id of its item, from how far from both ends on a gap is left, where to look then, at how
--       many entries
-- Returns 1, or 0 if it is not there any more, or -N: look again from N on.

local queue, delayed, payload, mark, unique, gaps = unpack(KEYS)
local text, id, place, seconds, key, item_id, far, start, count = unpack(ARGV)

-- To remove an entry far from both ends would compare the entries on the way, which takes long.
local function leave_gap(length)
  start, count = tonumber(start), tonumber(count)
  for index, entry in ipairs(redis.call('LRANGE', queue, start, start + count - 1)) do
    if entry == text then
      -- A full Redis denies LSET as a script's first write, but not after this one.
      redis.call('DEL', mark)
      redis.call('LSET', queue, start + index - 1, GAP)
      redis.call('INCR', gaps)
      return 1
    end
  end
  return start + count < length and -(start + count) or 0
end

if id ~= '' then
  if redis.call('HGET', payload, id) ~= text or redis.call('ZREM', delayed, id) == 0 then
    return 0
  end
  redis.call('HDEL', payload, id)
else
  local length = redis.call('LLEN', queue)
  local way = math.min(tonumber(place), length - tonumber(place))
  if way >= tonumber(far) then
    local left = leave_gap(length)
    if left ~= 1 then
      return left
    end
  -- From the nearer end, as each entry on the way is compared.
  elseif redis.call('LREM', queue, tonumber(place) > length / 2 and -1 or 1, text) == 0 then
    return 0
  end
end
free(unique, key, item_id)
if seconds ~= '0' then
  redis.call('SET', mark, '1', 'EX', seconds)
end
return 1
