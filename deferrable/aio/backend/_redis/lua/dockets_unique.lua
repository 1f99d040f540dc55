-- Who holds a unique key: a record in a hash, for each key.
--
-- A record is 'TIME UNTIL ID': the moment from which on every entry that is pushed is behind the
-- holder, by the producers' clock; until when the holder is known to be there, by the clock of the
-- scripts; the id of its item.

local function record_of(time, till, id)
  return string.format('%.6f %.6f %s', time, till, id)
end

-- False: there is no record.
local function holder_in(record)
  return record and string.match(record, '^%S+ %S+ (.*)$')
end

-- Let go of a key, if this item holds it.
local function free(unique, key, id)
  if key ~= '' and holder_in(redis.call('HGET', unique, key)) == id then
    redis.call('HDEL', unique, key)
  end
end

-- Why a new item cannot have a key: {0, id of the holder}, or {-1, record} if the holder is to be
-- checked. Nil: it can. `gone` is the record of a holder that is known to be gone.
local function refusal(unique, key, gone, now)
  local record = key ~= '' and redis.call('HGET', unique, key)
  if not record or record == gone then
    return nil
  end
  local till = tonumber(string.match(record, '^%S+ (%S+)'))
  -- Nobody is trusted for that long: the clock went back.
  if till > now and till < now + 3600 then
    return {0, holder_in(record)}
  end
  return {-1, record}
end
