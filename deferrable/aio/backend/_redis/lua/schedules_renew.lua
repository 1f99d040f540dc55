-- Note that a worker has these schedules, and forget those that no worker has had for long.
--
-- KEYS: the schedules.
-- ARGV: now or '' for the server's, '1' if the worker has just started or '', then name and version
--       of each.
-- Returns now, and for each its last tick and whether another version of it has a say ('1' or ''),
--         as texts.

local key, now = KEYS[1], moment(ARGV[1])
local answer = {text_of(now)}
for first = 3, #ARGV, 2 do
    local name, version = ARGV[first], ARGV[first + 1]
    local record = renewed(read(redis.call('HGET', key, name)), now, version, ARGV[2] == '1')
    keep(key, name, record)
    answer[#answer + 1] = text_of(record.last)
    answer[#answer + 1] = record.version == version and '' or '1'
end
local all = redis.call('HGETALL', key)
for first = 1, #all, 2 do
    if not is_fresh(read(all[first + 1]), now) then
        redis.call('HDEL', key, all[first])
    end
end
return answer
