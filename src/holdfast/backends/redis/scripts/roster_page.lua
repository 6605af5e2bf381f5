-- include: roster
-- Members of a roster in the order of their names.
-- KEYS: one pair
-- ARGV: 2 the name to go on after ("" = from the start)   3 most names to look at
-- Returns {name to go on after or nil at the end, members}
-- Invariants: members that ran out are removed on the way, so each is passed over once.

local names = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[2] == '' and '-' or '(' .. ARGV[2], '+', 'LIMIT', 0, ARGV[3])
local living, gone = {}, {}
if #names > 0 then
  local now, scores = now_ms(), redis.call('ZMSCORE', KEYS[1], unpack(names))
  for i, name in ipairs(names) do
    if scores[i] and tonumber(scores[i]) > now then living[#living + 1] = name else gone[#gone + 1] = name end
  end
  if #gone > 0 then
    redis.call('ZREM', KEYS[1], unpack(gone))
    redis.call('ZREM', KEYS[2], unpack(gone))
  end
end
return { #names == tonumber(ARGV[3]) and names[#names] or false, living }
