-- include: session, fence, record, ask, trim
-- Store one event with the next offset, trim, and announce it: one atomic step.
-- KEYS: session
-- ARGV: 3 replica that appends   4 stream   5 payload
--       6 writer ("" = no key)   7 counter   8 "1" = final   9 id that the client's answer will have ("" = none)
--       10 most events   11 most bytes   12 hint   13 activity record if final, without closing brace
--       14, 15 what stands before and after a replica's id in the name of its channel
--       16 most bytes of payload in a hint
-- Returns {"gone"} | {"unknown"} | {"closed"} | {"stale"}: the writer is already past this counter
--       | {"ok", epoch, offset, previous} | {"again", epoch, offset, previous, payload or false}
-- Invariants:
--   offsets are dense; the stream entry's id is the offset
--   a stream's trimmed >= offset of each of its events that is no longer in the log
--   c, b = number and bytes of the entries in the log; y: see trim
--   d = everything up to here counts as trimmed: entries were missing (somebody deleted or evicted the key)
-- All entries have the same fields in the same order (s stream, p how far back the previous event of the stream is,
-- f flag, d payload): then a node of the stream stores the names once. Flags: "0", "f" final, "x<id>" request to the
-- client.

local replica, stream, payload, writer, counter = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local final, expects = ARGV[8] == '1', ARGV[9]
local field = 's:' .. stream
local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'l', 'c', 'b', 't', 'w', field, 'y', 'k')
if not m[1] then return { 'gone' } end
if not m[10] then return { 'unknown' } end
local epoch = fence(m[1], m[2], m[3], m[4])
local record = decode(m[10])
local standalone = stream == '-'

-- A repetition? A request stream has one writer at a time, the standalone stream has many:
-- k = "<writer> <counter> <offset> <previous>;..." newest first.
local writers = m[12] or ''
if writer ~= '' then
  local c, o, p
  if standalone then
    for w, wc, wo, wp in string.gmatch(writers, '([^ ;]+) (%d+) (%d+) (%d+);') do
      if w == writer then c, o, p = wc, wo, wp break end
    end
  elseif record.writer == writer then
    c, o, p = record.counter, record.offset, record.previous
  end
  if c == counter then
    local e = redis.call('XRANGE', LOG, o .. '-0', o .. '-0')[1]
    return { 'again', epoch, tonumber(o), tonumber(p), e and e[2][8] or false }
  end
  if c and tonumber(c) > tonumber(counter) then return { 'stale' } end
end
if record.state == 'c' then return { 'closed' } end

local offset, previous = tonumber(m[3]) + 1, record.last
local flag = final and 'f' or (expects ~= '' and 'x' .. expects or '0')
redis.call('XADD', LOG, offset .. '-0', 's', stream, 'p', offset - previous, 'f', flag, 'd', payload)

local count, bytes, plain = m[6] + 1, m[7] + #payload, tonumber(m[11])
local changes = { 'o', offset, 'c', 0, 'b', 0, field, '' }
record.last = offset
if final then record.state = 'c' end
if standalone and flag == '0' then
  plain = plain + 1
  changes[9], changes[10] = 'y', plain
end
if writer ~= '' then
  if standalone then
    local kept, n = { writer .. ' ' .. counter .. ' ' .. offset .. ' ' .. previous .. ';' }, 1
    for one, w in string.gmatch(writers, '(([^ ;]+) %d+ %d+ %d+;)') do
      if n == 16 then break end -- lives of replicas that wrote to this stream last
      if w ~= writer then
        n = n + 1
        kept[n] = one
      end
    end
    changes[#changes + 1], changes[#changes + 2] = 'k', table.concat(kept)
  else
    record.writer, record.counter, record.offset, record.previous = writer, counter, offset, previous
  end
end

local most_events, most_bytes = tonumber(ARGV[10]), tonumber(ARGV[11])
if (count > most_events or bytes > most_bytes) and count > 1 then
  local t, damaged
  t, count, bytes, plain, damaged = trim(m[8], offset, count, bytes, plain, most_events, most_bytes, stream, record)
  if damaged then
    count, bytes, plain = 1, #payload, standalone and flag == '0' and 1 or 0
    changes[#changes + 1], changes[#changes + 2] = 'd', offset - 1
  end
  local n = #changes
  changes[n + 1], changes[n + 2], changes[n + 3], changes[n + 4] = 't', t, 'y', plain
end
changes[4], changes[6], changes[8] = count, bytes, encode(record)
redis.call('HSET', META, unpack(changes))

touch(m[5])
if count == 1 then expire_with_meta(LOG) end
if expects ~= '' then ask(expects, offset, replica, stream) end
if final then
  withdraw(stream)
  note(ARGV[13])
end

-- Wake the replicas that watch. Leases that ran out are dropped here.
local leases = m[9]
if leases and leases ~= '' then
  local now, kept, n, dead, hint = now_ms(), {}, 0, false, ARGV[12]
  if #payload <= tonumber(ARGV[16]) then
    hint = table.concat({ hint, epoch, offset, previous, final and 'f' or '0', #stream, stream .. payload }, ' ')
  end
  for who, deadline in string.gmatch(leases, '([^ ;]+) (%d+);') do
    if tonumber(deadline) > now then
      n = n + 1
      kept[n] = who .. ' ' .. deadline .. ';'
      if who ~= replica then redis.call('PUBLISH', ARGV[14] .. who .. ARGV[15], hint) end
    else
      dead = true
    end
  end
  if dead then redis.call('HSET', META, 'w', table.concat(kept)) end
end
return { 'ok', epoch, offset, previous }
