-- Remove entries from one working list, and let go of their unique keys.
--
-- KEYS: working list, workers, unique
-- ARGV: consumer id; then three for each entry: its text, its unique key ('' if it has none), the id
--       of its item
-- Returns {1 if the consumer is a member, a text with 1 or 0 for each entry}.

local flags = {}
for first = 2, #ARGV, 3 do
  local text, key, id = unpack(ARGV, first, first + 2)
  local removed = redis.call('LREM', KEYS[1], -1, text)
  if removed == 1 then
    free(KEYS[3], key, id)
  end
  flags[#flags + 1] = removed
end
return {redis.call('SISMEMBER', KEYS[2], ARGV[1]), table.concat(flags)}
