-- What `debounced_push` does with a window that is shared with the old library.

local function window_at(now)
    local window = standing(now)
    window.pushed_by = redis.call('HGET', RESERVATION, 'pushed_by')
    return window
end

local function keep(token, available_time, now, life_seconds, repeatable_seconds)
    redis.call('SET', LAST_PUSH, text_of(available_time), 'PX', milliseconds(life_seconds))
    if available_time > now then
        redis.call('SET', MARK, '_', 'PX', milliseconds(available_time - now))
    else
        redis.call('DEL', MARK)
    end
    redis.call('DEL', RESERVATION)
    redis.call('HSET', RESERVATION, 'pushed_by', token)
    redis.call('PEXPIRE', RESERVATION, milliseconds(repeatable_seconds))
end
