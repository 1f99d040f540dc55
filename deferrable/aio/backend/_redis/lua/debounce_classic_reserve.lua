-- Decide on a call and reserve the window that it shares with the old library, in one step.
--
-- ARGV: token, window_seconds, '1' for always_delay or '', seconds that the reservation lasts,
--       seconds that the window is kept, now or '' for the server's.
-- Returns the decision, the delay and the moment at which the item becomes available, as texts, and
--         the id of the item because of which a call is skipped, or '', and '1' while that item
--         is being pushed.

local token, window_seconds = ARGV[1], tonumber(ARGV[2])
local reserved_seconds, life_seconds = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = moment(ARGV[6])

local window = standing(now)
if window.token == token then
    local decision, available_time, delay_seconds = decide_again(window.available_time, now)
    return {decision, text_of(delay_seconds), text_of(available_time), ''}
end

local decision, available_time, delay_seconds =
    decide(window.available_time, now, window_seconds, ARGV[3] == '1')
if decision == 'skip' then
    local under_way = window.token and '1' or ''
    return {decision, text_of(delay_seconds), text_of(available_time), window.token or '', under_way}
end

local left_milliseconds = redis.call('PTTL', LAST_PUSH)
if window.is_reserved or left_milliseconds < 0 then
    left_milliseconds = math.ceil(life_seconds * 1000)
end
local left
if available_time > now then
    redis.call('SET', MARK, '_', 'PX', milliseconds(math.min(delay_seconds, reserved_seconds)))
    if window.is_reserved then
        -- It may be there only for as long as the other reservation. From now on it is a fact.
        if window.previous == '' then
            redis.call('DEL', LAST_PUSH)
        else
            redis.call('SET', LAST_PUSH, window.previous, 'PX', milliseconds(life_seconds))
        end
    end
    left = window.previous
else
    redis.call('DEL', MARK)
    left = text_of(now)
    redis.call(
        'SET', LAST_PUSH, left, 'PX', milliseconds(math.min(life_seconds, reserved_seconds)))
end
redis.call('DEL', RESERVATION)
redis.call(
    'HSET', RESERVATION,
    'token', token,
    'reserved_until_time', text_of(now + reserved_seconds),
    'window_seconds', ARGV[2],
    'available_time', text_of(available_time),
    'previous', window.previous,
    'previous_end', string.format('%.0f', server_milliseconds() + left_milliseconds),
    'left', left)
redis.call('PEXPIRE', RESERVATION, milliseconds(reserved_seconds))
return {decision, text_of(delay_seconds), text_of(available_time), ''}
