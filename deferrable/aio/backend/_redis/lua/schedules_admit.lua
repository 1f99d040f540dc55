-- Admit a tick, and push its item in the same step or reserve the tick for a push elsewhere.
--
-- KEYS: the schedules; with a push also queue, delayed, payload.
-- ARGV: now or '' for the server's, name, version, the last tick, the tick, when it is due, the
--       token of a reservation or '' with a push; with a push also seconds of delay, its id among
--       the delayed ones, and the envelope.
-- Returns the verdict, the last tick and now, as texts.

local key, now = KEYS[1], moment(ARGV[1])
local name, version, tick, token = ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[7]
local record = renewed(read(redis.call('HGET', key, name)), now, version, false)
local verdict = 'admitted'
if record.version ~= version then
    verdict = 'superseded'
elseif record.last ~= tonumber(ARGV[4]) then
    verdict = 'taken'
elseif now < tonumber(ARGV[6]) then
    verdict = 'early'
elseif record.reserved and record.token ~= token and now < record.reserved then
    verdict = 'reserved'
elseif token ~= '' then
    record.tick, record.token, record.reserved = tick, token, now + RESERVED_SECONDS
else
    local delay = tonumber(ARGV[8])
    -- First what a full Redis refuses.
    if delay > 0 then
        redis.call('HSET', KEYS[4], ARGV[9], ARGV[10])
        redis.call('ZADD', KEYS[3], string.format('%.6f', now + delay), ARGV[9])
    else
        redis.call('LPUSH', KEYS[2], ARGV[10])
    end
    record.last, record.reserved = tick, nil
end
keep(key, name, record)
return {verdict, text_of(record.last), text_of(now)}
