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
-- built for these; even a function costs the making of its closure. Numbers that come as text stay text, and a record is
-- taken apart here as far as it has to be.

local META, LOG, INCARNATION = KEYS[1], KEYS[2], ARGV[1]

local function rarely()
  -- include here: session, fence, record, ask, trim
  return {
    touch = touch, note = note, fence = fence, decode = decode, encode = encode, ask = ask, withdraw = withdraw,
    trim = trim,
  }
end

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
if m[2] ~= INCARNATION and INCARNATION ~= '?' then
  epoch = rarely().fence(epoch, m[2], top, redis.call('HGET', META, 'f'))
end
local standing, last, between, last_writer, last_counter, rest -- the record, around what may change in it
if writer == '' or standalone then
  standing, last, rest = string.match(text, '^(.|%d+|)(%d+)(.*)$')
else
  standing, last, between, last_writer, last_counter, rest =
    string.match(text, '^(.|%d+|)(%d+)(|%d+|[^|]*|)([^|]*)|(%d*)|%d*|%d*(|.*)$')
end

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
      local record = rarely().decode(text)
      o, p = record.offset, record.previous
    end
    local e = redis.call('XRANGE', LOG, o .. '-0', o .. '-0')[1]
    return { 'again', epoch, tonumber(o), tonumber(p), e and e[2][8] or false }
  end
  if c and tonumber(c) > tonumber(counter) then return { 'stale' } end
end
if string.byte(text) == 99 then return { 'closed' } end

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
if flag == 'f' then standing = 'c' .. string.sub(standing, 2) end
if writer == '' then
  text = standing .. at .. rest
elseif standalone then
  text = standing .. at .. rest
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
  text = standing .. at .. between .. writer .. '|' .. counter .. '|' .. at .. '|' .. last .. rest
end

local most_events, most_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
if (count > most_events or bytes > most_bytes) and count > 1 then
  local rare, more = rarely(), redis.call('HMGET', META, 't', 'y')
  local record = rare.decode(text)
  local t, damaged
  t, count, bytes, plain, damaged =
    rare.trim(more[1], offset, count, bytes, plain or tonumber(more[2]), most_events, most_bytes, stream, record)
  text = rare.encode(record)
  local n = #changes
  if damaged then
    count, bytes, plain = 1, #payload, standalone and flag == '0' and 1 or 0
    changes[n + 1], changes[n + 2], n = 'd', offset - 1, n + 2
  end
  changes[n + 1], changes[n + 2], changes[n + 3], changes[n + 4] = 't', t, 'y', plain
end
changes[4], changes[6], changes[8] = string.format('%d', count), string.format('%d', bytes), text
redis.call('HSET', META, unpack(changes))

local left = redis.call('PTTL', META)
if left < tonumber(m[4]) then
  rarely().touch(m[4])
elseif count == 1 then
  redis.call('PEXPIRE', LOG, left)
end
if flag == 'f' then
  local rare = rarely()
  rare.withdraw(stream)
  rare.note(ARGV[12])
elseif flag ~= '0' then
  rarely().ask(string.sub(flag, 2), at, ARGV[10], stream)
end

-- Wake the replicas that watch. Leases that ran out are dropped here.
local leases = m[7]
if leases and leases ~= '' then
  local t, kept, n, dead = redis.call('TIME'), {}, 0, false
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
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
