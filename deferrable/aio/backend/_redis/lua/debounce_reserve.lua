-- Decide on a call and reserve its window, in one step.
--
-- KEYS: the window.
-- ARGV: token, window_seconds, '1' for always_delay or '', seconds that the reservation lasts,
--       seconds that the window is kept, now or '' for the server's.
-- Returns the decision, the delay and the moment at which the item becomes available, as texts, and
--         the id of the item because of which a call is skipped, or '', and '1' while that item
--         is being pushed.

local token, window_seconds = ARGV[1], tonumber(ARGV[2])
local now = moment(ARGV[6])
local window = standing(KEYS[1], now)
if window.token == token then
    local decision, available_time, delay_seconds = decide_again(window.available_time, now)
    return {decision, text_of(delay_seconds), text_of(available_time), ''}
end

local decision, available_time, delay_seconds =
    decide(window.available_time, now, window_seconds, ARGV[3] == '1')
if decision ~= 'skip' then
    redis.call(
        'HSET', KEYS[1],
        'available_time', text_of(available_time),
        'token', token,
        'reserved_until_time', text_of(now + tonumber(ARGV[4])))
    redis.call('HDEL', KEYS[1], 'pushed_by')
    if window.available_time then
        redis.call('HSET', KEYS[1], 'previous_time', text_of(window.available_time))
    end
    redis.call('PEXPIRE', KEYS[1], milliseconds(tonumber(ARGV[5])))
end
local pending_id, under_way = '', ''
if decision == 'skip' then
    pending_id, under_way = window.pending_id or '', window.token and '1' or ''
end
return {decision, text_of(delay_seconds), text_of(available_time), pending_id, under_way}
