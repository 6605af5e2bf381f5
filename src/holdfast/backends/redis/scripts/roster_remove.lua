-- Take a member out of rosters.
-- KEYS: one or more pairs
-- ARGV: 2 member
-- Returns 1

for i = 1, #KEYS do redis.call('ZREM', KEYS[i], ARGV[2]) end
return 1
