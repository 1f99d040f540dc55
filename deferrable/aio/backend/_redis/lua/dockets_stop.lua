-- Ask the consumer of an item to stop its job, if it still holds it.
--
-- KEYS: working list, wanted stops of its consumer
-- ARGV: its text, seconds that the wish lasts
-- Returns 1, or 0 if the item is not there any more.

if not redis.call('LPOS', KEYS[1], ARGV[1]) then
  return 0
end
-- By its bytes, so that a later delivery of the same item is not stopped.
redis.call('SADD', KEYS[2], redis.sha1hex(ARGV[1]))
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
