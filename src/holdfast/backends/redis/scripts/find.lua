-- include: session
-- The session, if it lives and belongs to the asking principal; slides its expiry. A foreign one is not touched.
-- KEYS: session
-- ARGV: 2 owner ("-" or "=<digest>")   3 "1" = with the facts
-- Returns nil | {settings version, log level or nil, [protocol version, client, TTL in ms, top of the broadcasts or nil]}

local m = redis.call('HMGET', META, 'u', 'l', 'sv', 'sl')
if not m[1] or m[1] ~= ARGV[2] then return false end
touch(m[2])
if ARGV[3] ~= '1' then return { m[3], m[4] } end
local facts = redis.call('HMGET', META, 'v', 'p', 'bt')
return { m[3], m[4], facts[1], facts[2], m[2], facts[3] }
