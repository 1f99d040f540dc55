-- The push has worked: the window stays for its full time.
--
-- KEYS: the window.
-- ARGV: token, now or '' for the server's.

if standing(KEYS[1], moment(ARGV[2])).token == ARGV[1] then
    -- In this order, or a full Redis would deny it.
    redis.call('HDEL', KEYS[1], 'token', 'reserved_until_time')
    redis.call('HSET', KEYS[1], 'pushed_by', ARGV[1])
end
