-- include: session
-- Give a session that was opened without a protocol version what its `initialize` negotiated; the first one wins.
-- KEYS: session
-- ARGV: 2 protocol version   3 client   4 activity record, without closing brace
-- Returns nil: gone | 1: settled as asked, now or before | 0: something else is settled

local m = redis.call('HMGET', META, 'l', 'v', 'p')
if not m[1] then return false end
touch(m[1])
if m[2] ~= '' then return (m[2] == ARGV[2] and m[3] == ARGV[3]) and 1 or 0 end
redis.call('HSET', META, 'v', ARGV[2], 'p', ARGV[3])
note(ARGV[4])
return 1
