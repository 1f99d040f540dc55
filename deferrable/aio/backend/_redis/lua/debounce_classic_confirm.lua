-- The push has worked: the window that is shared with the old library is as that would leave it.
--
-- ARGV: token, now or '' for the server's, seconds that the window is kept for each of its own.

local now = moment(ARGV[2])
local reserved = reservation_of(ARGV[1], now)
if reserved then
    -- First, or a full Redis would deny the rest.
    redis.call('DEL', RESERVATION)
    local life = milliseconds(reserved.window_seconds * tonumber(ARGV[3]))
    redis.call('SET', LAST_PUSH, reserved.available_text, 'PX', life)
    if reserved.available_time > now then
        redis.call('SET', MARK, '_', 'PX', milliseconds(reserved.available_time - now))
    end
end
