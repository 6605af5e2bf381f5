-- include: session
-- Create a session as it was elsewhere, or put it in the place of one that nobody has changed.
-- KEYS: session, 7 tombstone
-- ARGV: 2 nonce of this call   3 epoch, 4 top and 5 settings version of the session that is replaced ("" = none is)
--       6 TTL in ms   7 activity record, without closing brace
--       8 number of fields of meta, of entries, of waiting requests, of answers: four numbers with blanks between
--       9 and on: fields and values; offset, stream, way back, flag and payload; ids and values; ids and values
-- Returns {"ok"} | {"exists"} | {"deleted"}
-- Invariants: rn = nonce of the last restoration, so that its repetition changes nothing. What replicas keep in meta
-- for themselves (leases, keys of writers) is not restored.

local nonce, over = ARGV[2], ARGV[3]
local m = redis.call('HMGET', META, 'e', 'o', 'sv', 'rn')
if m[1] then
  if m[4] == nonce then return { 'ok' } end
  if m[1] ~= over or m[2] ~= ARGV[4] or m[3] ~= ARGV[5] then return { 'exists' } end
end
if redis.call('EXISTS', KEYS[7]) == 1 then return { 'deleted' } end
redis.call('HSET', META, 'rn', nonce) -- first: a server without memory refuses it, and nothing is lost
for i = 1, 4 do redis.call('DEL', KEYS[i]) end
redis.call('HSET', META, 'i', INCARNATION, 'rn', nonce)

local fields, entries, asked, answers = string.match(ARGV[8], '(%d+) (%d+) (%d+) (%d+)')
local at = 9
for _ = 1, fields do
  redis.call('HSET', META, ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, entries do
  redis.call('XADD', LOG, ARGV[at] .. '-0', 's', ARGV[at + 1], 'p', ARGV[at + 2], 'f', ARGV[at + 3], 'd', ARGV[at + 4])
  at = at + 5
end
for _, hash in ipairs({ { ASKED, asked }, { INBOX, answers } }) do
  for _ = 1, hash[2] do
    redis.call('HSET', hash[1], ARGV[at], ARGV[at + 1])
    at = at + 2
  end
end
touch(ARGV[6])
note(ARGV[7])
return { 'ok' }
