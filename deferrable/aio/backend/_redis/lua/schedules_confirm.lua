-- A reserved tick was pushed.
--
-- KEYS: the schedules.
-- ARGV: name, the tick, the token of its reservation.

local record = read(redis.call('HGET', KEYS[1], ARGV[1]))
local tick = tonumber(ARGV[2])
if not record or not record.reserved or record.token ~= ARGV[3] or record.tick ~= tick then
    return 0
end
record.last, record.reserved = tick, nil
keep(KEYS[1], ARGV[1], record)
return 1
