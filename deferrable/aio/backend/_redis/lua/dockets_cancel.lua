-- Remove an item that no consumer holds, if it is still where it was seen, and leave a mark.
--
-- KEYS: queue, delayed, payload, mark, unique
-- ARGV: its text, its id among the delayed ones ('' if it is not one of them), its place in the list
--       when it was seen, seconds that the mark lasts (0: none), its unique key ('' if it has none),
--       the id of its item
-- Returns 1, or 0 if it is not there any more.

local queue, delayed, payload, mark, unique = unpack(KEYS)
local text, id, place, seconds, key, item_id = unpack(ARGV)

if id ~= '' then
  if redis.call('HGET', payload, id) ~= text or redis.call('ZREM', delayed, id) == 0 then
    return 0
  end
  redis.call('HDEL', payload, id)
else
  -- From the nearer end, as each entry on the way is compared.
  local side = 1
  if tonumber(place) > redis.call('LLEN', queue) / 2 then
    side = -1
  end
  if redis.call('LREM', queue, side, text) == 0 then
    return 0
  end
end
free(unique, key, item_id)
if seconds ~= '0' then
  redis.call('SET', mark, '1', 'EX', seconds)
end
return 1
