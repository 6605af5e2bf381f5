-- include: broadcast, fence
-- The top of the broadcast log, its expiry slid.
-- KEYS: meta and log of the broadcasts
-- ARGV: 3 TTL in ms
-- Returns nil: there is no log | {epoch, top}

local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f')
if not m[1] then return false end
local epoch = fence(m[1], m[2], m[3], m[4])
touch(ARGV[3])
return { epoch, tonumber(m[3]) }
