-- include: broadcast, fence
-- Store one event for all sessions with the next offset, trim, and announce it: one atomic step.
-- KEYS: meta and log of the broadcasts
-- ARGV: 3 payload   4 writer ("" = no key)   5 counter   6 most events   7 most bytes   8 TTL in ms
--       9 channel   10 most bytes of payload in an announcement
-- Returns {"stale"}: the writer is already past this counter
--       | {"ok", epoch, offset} | {"again", epoch, offset, payload or false}
-- Invariants: k = "<writer> <counter> <offset>;..." newest first

local payload, writer, counter = ARGV[3], ARGV[4], ARGV[5]
local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'z', 'b', 'k')
if not m[1] then
  m = { ARGV[2], INCARNATION, '0', '', '0', '0', '' }
  redis.call('HSET', META, 'e', m[1], 'i', m[2], 'o', 0, 'f', '', 'z', 0, 'b', 0, 'k', '')
  redis.call('DEL', LOG)
end
local epoch = fence(m[1], m[2], m[3], m[4])
local writers = m[7] or ''
if writer ~= '' then
  for w, c, o in string.gmatch(writers, '([^ ;]+) (%d+) (%d+);') do
    if w == writer then
      if c == counter then
        local e = redis.call('XRANGE', LOG, o .. '-0', o .. '-0')[1]
        return { 'again', epoch, tonumber(o), e and e[2][2] or false }
      end
      if tonumber(c) > tonumber(counter) then return { 'stale' } end
      break
    end
  end
end

local offset, trimmed, bytes = tonumber(m[3]) + 1, tonumber(m[5]), tonumber(m[6]) + #payload
redis.call('XADD', LOG, offset .. '-0', 'd', payload)
if redis.call('XLEN', LOG) ~= offset - trimmed then -- somebody deleted or evicted the key
  redis.call('XTRIM', LOG, 'MINID', offset .. '-0')
  trimmed, bytes = offset - 1, #payload
end

-- Once the log is full a few more go than must (a 64th), so that most appends need not look.
local most_events, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
if offset - trimmed > most_events or bytes > most_bytes then
  local few, before = most_events - math.floor(most_events / 64), trimmed
  while (offset - trimmed > few or bytes > most_bytes) and offset - trimmed > 1 do
    local batch = redis.call('XRANGE', LOG, '(' .. trimmed .. '-0', '+', 'COUNT', 32)
    for _, e in ipairs(batch) do
      if trimmed == offset - 1 or (offset - trimmed <= few and bytes <= most_bytes) then break end
      trimmed, bytes = trimmed + 1, bytes - #e[2][2]
    end
  end
  if trimmed > before then redis.call('XTRIM', LOG, 'MINID', (trimmed + 1) .. '-0') end
end

if writer ~= '' then
  local kept, n = { writer .. ' ' .. counter .. ' ' .. offset .. ';' }, 1
  for one, w in string.gmatch(writers, '(([^ ;]+) %d+ %d+;)') do
    if n == 64 then break end -- lives of replicas that broadcast last
    if w ~= writer then
      n = n + 1
      kept[n] = one
    end
  end
  writers = table.concat(kept)
end
redis.call('HSET', META, 'o', offset, 'z', trimmed, 'b', bytes, 'k', writers)
touch(ARGV[8])
local announced = '1 ' .. epoch .. ' ' .. offset
if #payload <= tonumber(ARGV[10]) then announced = announced .. ' ' .. payload end
redis.call('PUBLISH', ARGV[9], announced)
return { 'ok', epoch, offset }
