-- include: session, fence, record
-- Record a stream as running on a replica.
-- KEYS: session
-- ARGV: 3 stream   4 replica   5 request id as JSON   6 most streams
-- Returns {"gone"} | {"taken"}: the id is in use for something else | {"ok", epoch, offset}
-- Invariants: the same arguments return the same offset. At the limit, the older half of those running streams of
-- which no event is left is forgotten (n = number of records when last counted, plus those opened since).

local stream, replica, request, most = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'l', 's:' .. stream, 'n')
if not m[1] then return { 'gone' } end
local epoch = fence(m[1], m[2], m[3], m[4])
touch(m[5])
if m[6] then
  local r = decode(m[6])
  if r.replica ~= replica or r.request ~= request then return { 'taken' } end
  return { 'ok', epoch, tonumber(r.open) }
end
local n = tonumber(m[7] or 0) + 1
if n > most then
  local all, records, idle = redis.call('HGETALL', META), 0, {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 's:' and all[i] ~= 's:-' then
      records = records + 1
      local r = decode(all[i + 1])
      if r.state == 'r' and r.trimmed >= r.last then idle[#idle + 1] = { tonumber(r.open), all[i] } end
    end
  end
  if records >= most then
    table.sort(idle, function(a, b) return a[1] < b[1] end)
    for i = 1, math.ceil(#idle / 2) do
      redis.call('HDEL', META, idle[i][2])
      records = records - 1
    end
  end
  n = records + 1
end
redis.call('HSET', META, 'n', n, 's:' .. stream, table.concat({ 'r', m[3], 0, 0, replica, '', '', '', '', request }, '|'))
return { 'ok', epoch, tonumber(m[3]) }
