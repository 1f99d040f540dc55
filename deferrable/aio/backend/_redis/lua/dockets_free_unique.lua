-- Let go of the unique key of an entry that a consumer holds.
--
-- KEYS: its working list, unique
-- ARGV: the entry's text, its unique key, the id of its item
-- Returns 1, or 0 if the consumer does not hold the entry.

if not redis.call('LPOS', KEYS[1], ARGV[1]) then
  return 0
end
free(KEYS[2], ARGV[2], ARGV[3])
return 1
