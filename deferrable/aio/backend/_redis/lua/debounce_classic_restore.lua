-- The push has failed: the window that is shared with the old library is as it was.
--
-- ARGV: token, now or '' for the server's.

local reserved = reservation_of(ARGV[1], moment(ARGV[2]))
if reserved then
    redis.call('DEL', MARK, RESERVATION)
    if reserved.left ~= reserved.previous then
        if reserved.previous == '' or reserved.previous_end <= server_milliseconds() then
            redis.call('DEL', LAST_PUSH)
        else
            local end_text = string.format('%.0f', reserved.previous_end)
            redis.call('SET', LAST_PUSH, reserved.previous, 'PXAT', end_text)
        end
    end
end
