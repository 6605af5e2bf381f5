-- include: session, fence, record, unanswered
-- The events of one stream after a position, and the stream's state in the same instant.
-- KEYS: session
-- ARGV: 3 stream   4 epoch of the position   5 its offset   6 most events   7 most bytes (one event always fits)
--       8 most entries to look at
-- Returns {"gone"} | {"unknown"} | {"trimmed" or "epoch", resume offset, resume epoch, see `unanswered`}
--       | {"ok", epoch, cursor, 1 if nothing more was there, state, replica, request id, events}
--   events = offset, previous, flag, payload, offset, ...
-- Invariants: never a page with a hole. When the log does not have as many entries as meta says (somebody deleted
-- or evicted the key), everything up to the present top counts as trimmed: d = that top.

local stream, after = ARGV[3], tonumber(ARGV[5])
local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'c', 'd', 's:' .. stream)
if not m[1] then return { 'gone' } end
local top = tonumber(m[3])
local epoch, fences = fence(m[1], m[2], m[3], m[4])
local damaged = tonumber(m[6] or 0)
local entries = redis.call('XLEN', LOG)
if entries ~= tonumber(m[5]) then
  damaged = top
  redis.call('DEL', LOG)
  redis.call('HSET', META, 'd', top, 'c', 0, 'b', 0, 'y', 0, 't', table.concat({ top, 0, 0, 0, top, top }, ' '))
end
if not m[7] then return { 'unknown' } end
local record = decode(m[7])
local trimmed = math.max(record.trimmed, math.min(record.last, damaged))
local survived = surviving(ARGV[4], epoch, top, fences)
if not survived or (after > survived and ARGV[4] == epoch) then return { 'epoch', 0, '' } end
if after > survived then
  local resume = math.max(survived, trimmed)
  return { 'epoch', resume, epoch, unanswered(stream, 0, resume) }
end
if after < trimmed then return { 'trimmed', trimmed, epoch, unanswered(stream, after, trimmed) } end

local events, n, cursor, complete = {}, 0, top, 1
if record.last > after then
  local most_events, most_bytes, look_at = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
  local bytes, seen, from = 0, 0, after
  repeat
    local batch = redis.call('XRANGE', LOG, '(' .. from .. '-0', '+', 'COUNT', 100)
    for _, e in ipairs(batch) do
      local fields = e[2]
      from = tonumber(string.match(e[1], '^%d+'))
      seen = seen + 1
      if fields[2] == stream then
        events[n + 1], events[n + 2], events[n + 3], events[n + 4] = from, from - fields[4], fields[6], fields[8]
        n = n + 4
        bytes = bytes + #fields[8]
        if n == most_events * 4 or bytes >= most_bytes then break end
      end
    end
    if from >= record.last then break end
    if #batch == 0 then return { 'trimmed', record.last, epoch, unanswered(stream, after, record.last) } end
    if n == most_events * 4 or bytes >= most_bytes or seen >= look_at then
      cursor, complete = from, 0
      break
    end
  until false
end
return { 'ok', epoch, cursor, complete, record.state, record.replica, record.request, events }
