-- Pause a queue.
--
-- KEYS: paused
-- ARGV: text of the pause, milliseconds until it ends by itself, or '' for never

-- A full Redis denies SET as a script's first write, but not after this one.
redis.call('DEL', KEYS[1])
if ARGV[2] == '' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
