-- A window of ours: one hash, with the fields of deferrable.debounce.Window.

-- The moment and the token that count at `now`, and the whole hash: a reservation that is past is as
-- if it had never been.
local function standing(key, now)
    local kept = redis.call(
        'HMGET', key, 'available_time', 'token', 'reserved_until_time', 'previous_time', 'pushed_by')
    local window = {
        available_time = tonumber(kept[1]),
        token = kept[2],
        previous_text = kept[4],
        pushed_by = kept[5],
    }
    if window.token and tonumber(kept[3]) <= now then
        window.available_time = tonumber(kept[4])
        window.token = false
    end
    window.pending_id = window.token or window.pushed_by
    return window
end
