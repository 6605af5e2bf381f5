-- include: session, fence
-- All that is known of a session. Its expiry does not slide.
-- KEYS: session
-- Returns nil: gone | {meta, log, asked, inbox}, each as Redis returns it
-- Invariants: as in read.lua, a log that does not have as many entries as meta says counts as trimmed up to the top.

local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'c')
if not m[1] then return false end
fence(m[1], m[2], m[3], m[4])
if redis.call('XLEN', LOG) ~= tonumber(m[5]) then
  redis.call('DEL', LOG)
  redis.call('HSET', META, 'd', m[3], 'c', 0, 'b', 0, 'y', 0, 't', table.concat({ m[3], 0, 0, 0, m[3], m[3] }, ' '))
end
return { redis.call('HGETALL', META), redis.call('XRANGE', LOG, '-', '+'), redis.call('HGETALL', ASKED),
  redis.call('HGETALL', INBOX) }
