-- The item was cancelled: the window is as it was before it was pushed, unless another one was since.
--
-- KEYS: the window.
-- ARGV: the item's id, now or '' for the server's.

local window = standing(KEYS[1], moment(ARGV[2]))
if window.pending_id == ARGV[1] then
    if window.previous_text then
        -- In this order, or a full Redis would deny it.
        redis.call('HDEL', KEYS[1], 'token', 'reserved_until_time', 'previous_time', 'pushed_by')
        redis.call('HSET', KEYS[1], 'available_time', window.previous_text)
    else
        redis.call('DEL', KEYS[1])
    end
end
