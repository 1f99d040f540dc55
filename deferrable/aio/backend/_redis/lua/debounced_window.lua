-- What `debounced_push` does with a window of ours.

local function window_at(now)
    return standing(KEYS[1], now)
end

local function keep(token, available_time, now, life_seconds, repeatable_seconds, previous_time)
    redis.call('DEL', KEYS[1])
    redis.call(
        'HSET', KEYS[1], 'available_time', text_of(available_time), 'pushed_by', token)
    if previous_time then
        redis.call('HSET', KEYS[1], 'previous_time', text_of(previous_time))
    end
    redis.call('PEXPIRE', KEYS[1], milliseconds(life_seconds))
end
