-- The item was cancelled: nothing is pending in the window that is shared with the old library, unless
-- another item was pushed since. Nobody knows the time of the push before, so the next call is the
-- first again.
--
-- ARGV: the item's id, now or '' for the server's, unused, when the item was to become available

local reserved = reservation_of(ARGV[1], moment(ARGV[2]))
if reserved or (ARGV[4] ~= '' and tonumber(redis.call('GET', LAST_PUSH)) == tonumber(ARGV[4])) then
    redis.call('DEL', MARK, LAST_PUSH, RESERVATION)
end
