-- Take a consumer off the workers, if it left nothing in its working list.
--
-- KEYS: workers, own working list, own active key
-- ARGV: consumer id

if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
end
return 0
