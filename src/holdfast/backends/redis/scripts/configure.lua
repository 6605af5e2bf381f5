-- include: session
-- Change the session's log level.
-- KEYS: session
-- ARGV: 2 nonce of this call   3 log level   4 activity record, without closing brace
-- Returns nil: gone | {settings version, log level}
-- Invariants: sv grows by one with each call; sn = nonce of the last one, so that its repetition changes nothing.

local m = redis.call('HMGET', META, 'l', 'sv', 'sn', 'sl')
if not m[1] then return false end
touch(m[1])
if m[3] == ARGV[2] then return { m[2], m[4] } end
local version = redis.call('HINCRBY', META, 'sv', 1)
redis.call('HSET', META, 'sl', ARGV[3], 'sn', ARGV[2])
note(ARGV[4])
return { tostring(version), ARGV[3] }
