-- include: session
-- Delete a session with all that belongs to it, and see to it that its id is never used again.
-- KEYS: session, 7 tombstone
-- ARGV: 2 nonce of this call
-- Returns {"gone"} | {"again"}: this very call did it before | {"ok", owner, subscribed uris}
-- Invariants: the tombstone lives as long as the session would have.

local m = redis.call('HMGET', META, 'u', 'l')
if not m[1] then
  return { redis.call('GET', KEYS[7]) == ARGV[2] and 'again' or 'gone' }
end
local uris = redis.call('SMEMBERS', SUBS)
-- In this order, a server without memory lets the session be deleted.
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('SET', KEYS[7], ARGV[2], 'PX', math.floor(tonumber(m[2]) * 17 / 16))
return { 'ok', m[1], uris }
