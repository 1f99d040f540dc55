-- A window shared with the old library, kept as it keeps it.
--
-- KEYS: its pending mark (holds '_' for as long as an item is pending), its time of the last push
--       (text), and a hash of our own, which lives only as long as a reservation:
--       token, reserved_until_time, window_seconds, available_time (of the item being pushed),
--       previous (the time of the last push before, as text, '' if there was none),
--       previous_end (when that was to expire, in server milliseconds), left (the text that the
--       reservation left as the time of the last push).
--
-- While a push now is under way, the time of the last push is the reserved one, for no longer than
-- the reservation. While a delayed push is, that time is still the one before, and the mark says to
-- the old library that an item is pending, for no longer than the reservation. So either generation
-- sees a dead producer's window as it was, once the reservation has ended.

local MARK, LAST_PUSH, RESERVATION = KEYS[1], KEYS[2], KEYS[3]

local function server_milliseconds()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- What the reservation says, or nil: there is none, or the old library has written since.
local function reservation(last_push)
    local kept = redis.call(
        'HMGET', RESERVATION, 'token', 'reserved_until_time', 'window_seconds', 'available_time',
        'previous', 'previous_end', 'left')
    if not kept[1] or (last_push and last_push ~= kept[7]) then
        return nil
    end
    return {
        token = kept[1],
        reserved_until_time = tonumber(kept[2]),
        window_seconds = tonumber(kept[3]),
        available_time = tonumber(kept[4]),
        available_text = kept[4],
        previous = kept[5],
        previous_end = tonumber(kept[6]),
        left = kept[7],
    }
end

-- What counts at `now`: available_time, previous (the same as text), token and is_reserved.
local function standing(now)
    local last_push = redis.call('GET', LAST_PUSH)
    local reserved = reservation(last_push)
    local window = {is_reserved = reserved ~= nil}
    if not reserved then
        window.previous = last_push or ''
        window.available_time = tonumber(window.previous)
        if window.available_time and window.available_time > now
                and redis.call('EXISTS', MARK) == 0 then
            -- An old producer, whose clock is ahead, pushed at once: nothing is pending.
            window.available_time = now
        end
        return window
    end
    if now < reserved.reserved_until_time then
        window.token = reserved.token
        window.previous = reserved.available_text
    else
        window.previous = reserved.previous
    end
    window.available_time = tonumber(window.previous)
    return window
end

-- The reservation of `token`, if it still stands at `now`.
local function reservation_of(token, now)
    local reserved = reservation(redis.call('GET', LAST_PUSH))
    if reserved and reserved.token == token and now < reserved.reserved_until_time then
        return reserved
    end
    return nil
end
