-- What `debounced_push` does with a window of ours.

local function window_at(now)
    local window = standing(KEYS[1], now)
    window.pushed_by = redis.call('HGET', KEYS[1], 'pushed_by')
    return window
end

local function keep(token, available_time, now, life_seconds)
    redis.call('DEL', KEYS[1])
    redis.call(
        'HSET', KEYS[1], 'available_time', text_of(available_time), 'pushed_by', token)
    redis.call('PEXPIRE', KEYS[1], milliseconds(life_seconds))
end
