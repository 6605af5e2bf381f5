-- include: session
-- Store the client's answer to a request that waits for it, and wake the replica that waits.
-- KEYS: session
-- ARGV: 2 nonce of this call   3 request id   4 answer   5 hint
--       6, 7 what stands before and after a replica's id in the name of its channel
-- Returns 1 | 0: nobody waits, nothing is stored
-- Invariants: inbox = id -> nonce of put|nonce of take|answer. An id is never in asked and in inbox at once.

local m = redis.call('HGET', ASKED, ARGV[3])
if not m then
  local there = redis.call('HGET', INBOX, ARGV[3])
  return there and string.match(there, '^[^|]*') == ARGV[2] and 1 or 0
end
local ttl = redis.call('HGET', META, 'l')
if not ttl then return 0 end
touch(ttl)
redis.call('HDEL', ASKED, ARGV[3])
redis.call('HSET', INBOX, ARGV[3], ARGV[2] .. '||' .. ARGV[4])
expire_with_meta(INBOX)
redis.call('PUBLISH', ARGV[6] .. string.match(m, '^%d+|([^|]*)|') .. ARGV[7], ARGV[5])
return 1
