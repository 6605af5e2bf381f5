-- Rosters: sets of members that expire one by one, listed in the order of their names: `-- include: roster`.
-- A roster is two sorted sets in one slot: `when` (score = time in ms at which the member counts as gone) and
-- `names` (score 0, for listing). Both have the same members.
-- KEYS: pairs of when, names

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Forget members that ran out; a bounded number at a time, for each call does a little.
local function purge(when, names, now)
  local gone = redis.call('ZRANGEBYSCORE', when, '-inf', string.format('%.0f', now), 'LIMIT', 0, 200)
  if #gone > 0 then
    redis.call('ZREM', when, unpack(gone))
    redis.call('ZREM', names, unpack(gone))
  end
end
