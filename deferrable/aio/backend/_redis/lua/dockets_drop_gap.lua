-- Remove a gap from a working list, and count it.
--
-- KEYS: working list, gaps
-- Returns nothing.

if redis.call('LREM', KEYS[1], 1, GAP) == 1 then
  redis.call('DECR', KEYS[2])
end
