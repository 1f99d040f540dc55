-- Decide on a call, push its item and keep its window, in one step: there is no reservation, as
-- nobody can die in between.
--
-- KEYS: the window's, then queue, delayed, payload.
-- ARGV: token, window_seconds, '1' for always_delay or '', seconds for which the same token is the
--       same push, seconds that the window is kept, now or '' for the server's, the id of the item
--       among the delayed ones, the envelope up to the last field of the item, the envelope after
--       the item.
-- Returns the decision, the delay and the moment at which the item becomes available, as texts, and
--         the id of the item because of which a call is skipped, or ''.

local token, now = ARGV[1], moment(ARGV[6])
local queue, delayed, payload = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]

local window = window_at(now)
if window.pushed_by == token then
    local decision, available_time, delay_seconds = decide_again(window.available_time, now)
    return {decision, text_of(delay_seconds), text_of(available_time), ''}
end

local decision, available_time, delay_seconds =
    decide(window.available_time, now, tonumber(ARGV[2]), ARGV[3] == '1')
local delay, available = text_of(delay_seconds), text_of(available_time)
if decision ~= 'skip' then
    local fields = ',"original_delay":' .. delay .. ',"delay":' .. delay
    if delay_seconds > 0 then
        fields = fields .. ',"due_time":' .. available
    end
    local envelope = ARGV[8] .. fields .. '}' .. ARGV[9]
    if delay_seconds > 0 then
        redis.call('HSET', payload, ARGV[7], envelope)
        redis.call('ZADD', delayed, available, ARGV[7])
    else
        redis.call('LPUSH', queue, envelope)
    end
    keep(token, available_time, now, tonumber(ARGV[5]), tonumber(ARGV[4]), window.available_time)
end
return {decision, delay, available, decision == 'skip' and window.pending_id or ''}
