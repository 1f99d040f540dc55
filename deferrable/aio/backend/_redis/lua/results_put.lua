-- Store results and wake everybody who waits for one of them.
--
-- KEYS: a key for each; it is also the name of its channel
-- ARGV: two for each: its text, its life in ms

for index, key in ipairs(KEYS) do
  local text = ARGV[2 * index - 1]
  redis.call('SET', key, text, 'PX', ARGV[2 * index])
  redis.call('PUBLISH', key, text)
end
return #KEYS
