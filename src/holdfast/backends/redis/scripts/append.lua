-- include: session, fence, record, ask, trim
-- Store one event with the next offset, trim, and announce it: one atomic step.
-- KEYS: session
-- ARGV: 3 stream   4 payload   5 writer ("" = no key)   6 counter
--       7 flag of the entry: "0" plain, "f" final, "x<id>" a request to the client whose answer will have this id
--       8 most events   9 most bytes   10 replica that appends
--       11 hint, what stands before and after a replica's id in the name of its channel, most bytes of payload in a
--          hint: words separated by blanks
--       12 activity record if final, without closing brace
-- Returns {"gone"} | {"unknown"} | {"closed"} | {"stale"}: the writer is already past this counter
--       | {"ok", epoch, offset, previous} | {"again", epoch, offset, previous, payload or false}
-- Invariants:
--   offsets are dense; the stream entry's id is the offset
--   a stream's trimmed >= offset of each of its events that is no longer in the log
--   c, b = number and bytes of the entries in the log; y: see trim
--   d = everything up to here counts as trimmed: entries were missing (somebody deleted or evicted the key)
-- All entries have the same fields in the same order (s stream, p how far back the previous event of the stream is,
-- f flag, d payload): then a node of the stream stores the names once.
-- This is the hot path, and the store carries out one script at a time. So what only some events need is read and
-- built for these; numbers that come as text stay text; and `record` is taken apart here and not by `decode`.

local stream, payload, writer, counter, flag = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local standalone, field = stream == '-', 's:' .. stream
local m
if standalone then
  m = redis.call('HMGET', META, 'e', 'i', 'o', 'l', 'c', 'b', 'w', field, 'y', 'k')
else
  m = redis.call('HMGET', META, 'e', 'i', 'o', 'l', 'c', 'b', 'w', field)
end
local epoch, top, text = m[1], m[3], m[8]
if not epoch then return { 'gone' } end
if not text then return { 'unknown' } end
if m[2] ~= INCARNATION and INCARNATION ~= '?' then epoch = fence(epoch, m[2], top, redis.call('HGET', META, 'f')) end
local state, open, last, between, keyed, last_writer, last_counter, request =
  string.match(text, '^(.)(|%d+|)(%d+)(|%d+|[^|]*|)(([^|]*)|(%d*)|%d*|%d*)(|.*)$')

-- A repetition? A request stream has one writer at a time, the standalone stream has many:
-- k = "<writer> <counter> <offset> <previous>;..." newest first.
local writers = m[10] or ''
if writer ~= '' then
  local c, o, p
  if standalone then
    for w, wc, wo, wp in string.gmatch(writers, '([^ ;]+) (%d+) (%d+) (%d+);') do
      if w == writer then c, o, p = wc, wo, wp break end
    end
  elseif last_writer == writer then
    c = last_counter
  end
  if c == counter then
    if not standalone then
      local record = decode(text)
      o, p = record.offset, record.previous
    end
    local e = redis.call('XRANGE', LOG, o .. '-0', o .. '-0')[1]
    return { 'again', epoch, tonumber(o), tonumber(p), e and e[2][8] or false }
  end
  if c and tonumber(c) > tonumber(counter) then return { 'stale' } end
end
if state == 'c' then return { 'closed' } end

local offset, previous = top + 1, tonumber(last)
local at = string.format('%d', offset)
redis.call('XADD', LOG, at .. '-0', 's', stream, 'p', string.format('%d', offset - previous), 'f', flag, 'd', payload)

local count, bytes = m[5] + 1, m[6] + #payload
local changes = { 'o', at, 'c', '', 'b', '', field, '' }
local plain
if standalone then
  plain = flag == '0' and m[9] + 1 or tonumber(m[9])
  changes[9], changes[10] = 'y', plain
end
if flag == 'f' then state = 'c' end
if writer ~= '' then
  if standalone then
    local kept, n = { writer .. ' ' .. counter .. ' ' .. at .. ' ' .. last .. ';' }, 1
    for one, w in string.gmatch(writers, '(([^ ;]+) %d+ %d+ %d+;)') do
      if n == 16 then break end -- lives of replicas that wrote to this stream last
      if w ~= writer then
        n = n + 1
        kept[n] = one
      end
    end
    changes[11], changes[12] = 'k', table.concat(kept)
  else
    keyed = writer .. '|' .. counter .. '|' .. at .. '|' .. last
  end
end
text = state .. open .. at .. between .. keyed .. request

local most_events, most_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
if (count > most_events or bytes > most_bytes) and count > 1 then
  local more, record = redis.call('HMGET', META, 't', 'y'), decode(text)
  local t, damaged
  t, count, bytes, plain, damaged =
    trim(more[1], offset, count, bytes, plain or tonumber(more[2]), most_events, most_bytes, stream, record)
  text = encode(record)
  local n = #changes
  if damaged then
    count, bytes, plain = 1, #payload, standalone and flag == '0' and 1 or 0
    changes[n + 1], changes[n + 2], n = 'd', offset - 1, n + 2
  end
  changes[n + 1], changes[n + 2], changes[n + 3], changes[n + 4] = 't', t, 'y', plain
end
changes[4], changes[6], changes[8] = string.format('%d', count), string.format('%d', bytes), text
redis.call('HSET', META, unpack(changes))

touch(m[4])
if count == 1 then expire_with_meta(LOG) end
if flag == 'f' then
  withdraw(stream)
  note(ARGV[12])
elseif flag ~= '0' then
  ask(string.sub(flag, 2), at, ARGV[10], stream)
end

-- Wake the replicas that watch. Leases that ran out are dropped here.
local leases = m[7]
if leases and leases ~= '' then
  local now, kept, n, dead = now_ms(), {}, 0, false
  local hint, head, tail, most
  for who, deadline in string.gmatch(leases, '([^ ;]+) (%d+);') do
    if tonumber(deadline) > now then
      n = n + 1
      kept[n] = who .. ' ' .. deadline .. ';'
      if who ~= ARGV[10] then
        if not hint then
          hint, head, tail, most = string.match(ARGV[11], '^(.*) (%S+) (%S+) (%d+)$')
          if #payload <= tonumber(most) then
            local final = flag == 'f' and 'f' or '0'
            hint = table.concat({ hint, epoch, at, last, final, #stream, stream .. payload }, ' ')
          end
        end
        redis.call('PUBLISH', head .. who .. tail, hint)
      end
    else
      dead = true
    end
  end
  if dead then redis.call('HSET', META, 'w', table.concat(kept)) end
end
return { 'ok', epoch, offset, previous }
