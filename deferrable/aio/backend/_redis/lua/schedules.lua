-- What the scripts of schedules begin with: what is kept of a schedule, and who has a say.
--
-- The twin of deferrable/_ticks.py; a property test holds them together. A schedule is a field of
-- one hash: the last tick, the version, when a worker with it was heard of, and of a tick that is
-- being pushed the tick, its token and until when it is reserved. `-` stands for none.

local KEPT_SECONDS, ABANDONED_SECONDS, BACK_SECONDS, RESERVED_SECONDS = 604800, 300, 3600, 30
-- The server's expiry does not follow an injected clock.
local HASH_SECONDS = 2 * KEPT_SECONDS

local function moment(given)
    if given ~= '' then
        return tonumber(given)
    end
    local time = redis.call('TIME')
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- The same double when it is read back.
local function text_of(number)
    return string.format('%.17g', number)
end

local function read(text)
    if not text then
        return nil
    end
    local last, version, seen, tick, token, reserved =
        string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
    if not last or not tonumber(last) or not tonumber(seen) then
        return nil
    end
    return {
        last = tonumber(last), version = version, seen = tonumber(seen),
        tick = tonumber(tick), token = token, reserved = tonumber(reserved),
    }
end

local function keep(key, name, record)
    local reserved = record.reserved
    redis.call('HSET', key, name, table.concat({
        text_of(record.last), record.version, text_of(record.seen),
        reserved and text_of(record.tick) or '-', reserved and record.token or '-',
        reserved and text_of(reserved) or '-',
    }, ' '))
    redis.call('EXPIRE', key, HASH_SECONDS)
end

local function is_fresh(record, now)
    return record and record.seen + KEPT_SECONDS > now and record.last - BACK_SECONDS <= now
end

local function renewed(record, now, version, is_start)
    if not is_fresh(record, now) then
        return {last = now, version = version, seen = now}
    end
    local silent = now - record.seen
    if record.version == version or is_start
        or silent < -BACK_SECONDS or silent >= ABANDONED_SECONDS then
        record.version, record.seen = version, now
    end
    return record
end
