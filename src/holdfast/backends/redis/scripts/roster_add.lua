-- include: roster
-- Put a member into rosters, or keep it there for longer.
-- KEYS: one or more pairs
-- ARGV: 2 member   3 milliseconds   4 limit of the first roster ("" = none)
-- Returns 1 | 0: the first roster is full, nothing was changed
-- Invariants: a roster's keys live as long as its longest living member.

local now, life = now_ms(), tonumber(ARGV[3])
for i = 1, #KEYS, 2 do purge(KEYS[i], KEYS[i + 1], now) end
if ARGV[4] ~= '' and not redis.call('ZSCORE', KEYS[1], ARGV[2])
    and redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf') >= tonumber(ARGV[4]) then
  return 0
end
for i = 1, #KEYS, 2 do
  redis.call('ZADD', KEYS[i], string.format('%.0f', now + life), ARGV[2])
  redis.call('ZADD', KEYS[i + 1], 0, ARGV[2])
  for j = i, i + 1 do
    if redis.call('PTTL', KEYS[j]) < life then redis.call('PEXPIRE', KEYS[j], life) end
  end
end
return 1
