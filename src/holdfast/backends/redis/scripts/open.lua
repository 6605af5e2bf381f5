-- include: session
-- Create a session and its empty log. The only script that creates meta.
-- KEYS: session, 7 tombstone
-- ARGV: 2 epoch, which is also the nonce of this call   3 owner ("-" or "=<digest>")   4 protocol version
--       5 client   6 TTL in ms   7 activity record, without closing brace   8 top of the broadcasts, "<epoch> <offset>"
-- Returns {"ok"} | {"exists", owner} | {"deleted"}
-- Invariants: a log that lies around without meta is not taken over.

local m = redis.call('HMGET', META, 'e', 'u')
if m[1] then return m[1] == ARGV[2] and { 'ok' } or { 'exists', m[2] } end
if redis.call('EXISTS', KEYS[7]) == 1 then return { 'deleted' } end
redis.call('HSET', META, 'e', ARGV[2], 'i', INCARNATION, 'o', 0, 'f', '', 'c', 0, 'b', 0, 'y', 0, 't', '0 0 0 0 0 0',
  'u', ARGV[3], 'v', ARGV[4], 'p', ARGV[5], 'l', ARGV[6], 'sv', 0, 'bt', ARGV[8], 's:-', 'r|0|0|0||||||')
for i = 2, 6 do redis.call('DEL', KEYS[i]) end -- after HSET: a server without memory refuses only the first write
touch(ARGV[6])
note(ARGV[7])
return { 'ok' }
