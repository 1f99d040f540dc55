-- Remove entries from one working list.
--
-- KEYS: working list, workers
-- ARGV: consumer id; then the entries
-- Returns {1 if the consumer is a member, a text with 1 or 0 for each entry}.

local flags = {}
for index = 2, #ARGV do
  flags[index - 1] = redis.call('LREM', KEYS[1], -1, ARGV[index])
end
return {redis.call('SISMEMBER', KEYS[2], ARGV[1]), table.concat(flags)}
