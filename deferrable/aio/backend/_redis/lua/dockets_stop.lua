-- Ask the consumer of an item to stop its job, if it still holds it.
--
-- KEYS: working list, wanted stops of its consumer
-- ARGV: its text, the item's id, seconds that the wish lasts
-- Returns 1, or 0 if the item is not there any more.

if not redis.call('LPOS', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
