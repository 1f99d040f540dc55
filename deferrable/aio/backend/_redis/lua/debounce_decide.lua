-- What the other debounce scripts begin with: the table of decisions, and what numbers look like.
--
-- The twin of deferrable/debounce.py. It counts in doubles, in the same order, so that both come to
-- the same moments to the last digit; a property test holds them together.

-- Now, by an injected clock, or by the server's own where `given` is empty.
local function moment(given)
    if given ~= '' then
        return tonumber(given)
    end
    local time = redis.call('TIME')
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- The shortest text that reads back as the same double. Lua's own has 14 digits, which would round
-- an epoch moment to a tenth of a millisecond.
local function text_of(number)
    for digits = 15, 16 do
        local text = string.format('%.' .. digits .. 'g', number)
        if tonumber(text) == number then
            return text
        end
    end
    return string.format('%.17g', number)
end

-- A life for PX: it never ends before the seconds do, or before 280,000 years. Redis refuses lives
-- beyond 64 bits, which would end a script after some of its writes.
local function milliseconds(seconds)
    return string.format('%.0f', math.max(1, math.min(2 ^ 53, math.ceil(seconds * 1000))))
end

-- Returns 'skip', 'now' or 'delayed', when the item becomes available, and its delay in seconds.
local function decide(available_time, now, window_seconds, always_delay)
    if available_time and available_time > now then
        return 'skip', available_time, 0
    end
    if always_delay then
        return 'delayed', now + window_seconds, window_seconds
    end
    if not available_time or now - available_time > window_seconds then
        return 'now', now, 0
    end
    local rest_seconds = math.ceil(window_seconds - (now - available_time))
    local delay_seconds = math.min(rest_seconds, window_seconds)
    return 'delayed', now + delay_seconds, delay_seconds
end

-- The decision on a call that asks again with the token that reserved the window.
local function decide_again(available_time, now)
    if available_time > now then
        return 'delayed', available_time, available_time - now
    end
    return 'now', available_time, 0
end
