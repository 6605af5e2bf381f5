-- What goes when a log is full: `-- include: session, record, trim`.
-- t = "<cut> <precious> <precious bytes> <reserved> <precious from> <reserved from>"
--   Entries up to <cut> were examined. Of those, only these are still in the log:
--   <precious>  responses, and requests to the client that waited for an answer when they were examined
--   <reserved>  plain events of the standalone stream
--   Those with an offset up to <.. from> are gone already.
-- y = number of plain events of the standalone stream in the log, examined or not
-- The order in which entries go:
--   1. the oldest precious one, if the precious ones hold more than half of the room
--   2. the oldest plain one, save the newest eighth of the room on the standalone stream: a busy request must not
--      drive it out
--   3. the oldest reserved one   4. the oldest precious one
-- Each of the three places only moves forward, so an entry is looked at a constant number of times in its life.
-- Once the log is full a few more go than must (a 64th), so that most appends need not look.
-- The entry at the top is never dropped: else a live reader would be told of a gap at each event.

-- Make room. Returns t, entries, bytes, y, and whether entries that should have been there were missing (all but
-- the top are dropped then).
local function trim(t, top, count, bytes, plain, most_events, most_bytes, own, record)
  local function offset_of(entry)
    return tonumber(string.match(entry[1], '^%d+'))
  end

  -- The first entry that was examined and is still there, of the standalone plain ones or of the others.
  local function first_left(from, cut, reserved)
    local size = 1
    while from < cut do
      local batch = redis.call('XRANGE', LOG, '(' .. from .. '-0', cut .. '-0', 'COUNT', size)
      for _, e in ipairs(batch) do
        from = offset_of(e)
        local fields = e[2]
        if (fields[2] == '-' and fields[6] == '0') == reserved then return e, from end
      end
      if #batch == 0 then return nil, cut end
      size = math.min(size * 2, 32)
    end
    return nil, cut
  end

  -- Each stream of which something was dropped learns how far; a closed one of which nothing is left is forgotten.
  -- `record`, of the stream `own`, is still to be written.
  local function note_trimmed(highest, own, record)
    local names, fields = {}, {}
    for stream, offset in pairs(highest) do
      if stream == own then
        record.trimmed = math.max(record.trimmed, offset)
      else
        names[#names + 1], fields[#fields + 1] = stream, 's:' .. stream
      end
    end
    if #names == 0 then return end
    for i, text in ipairs(redis.call('HMGET', META, unpack(fields))) do
      if text then
        local r = decode(text)
        r.trimmed = math.max(r.trimmed, highest[names[i]])
        if r.state == 'c' and r.trimmed >= r.last then
          redis.call('HDEL', META, fields[i])
        else
          redis.call('HSET', META, fields[i], encode(r))
        end
      end
    end
  end

  local n = {}
  for number in string.gmatch(t, '%d+') do n[#n + 1] = tonumber(number) end
  local cut, precious, precious_bytes, reserved, precious_from, reserved_from = unpack(n)
  local share, few = most_events / 8, most_events - math.floor(most_events / 64)
  local highest, dropped, damaged = {}, 0, false
  local batch, at, gone = {}, 0, {}

  -- Entries are removed together: with what lies before the cut, or one by one where some of that stays.
  local function flush()
    if #gone == 0 then return end
    if precious == 0 and reserved == 0 then
      redis.call('XTRIM', LOG, 'MINID', (cut + 1) .. '-0')
    else
      redis.call('XDEL', LOG, unpack(gone))
    end
    gone = {}
    note_trimmed(highest, own, record)
    highest = {}
  end

  local function drop(e)
    local fields, offset = e[2], offset_of(e)
    gone[#gone + 1] = e[1]
    count, bytes = count - 1, bytes - #fields[8]
    if fields[2] == '-' and fields[6] == '0' then plain = plain - 1 end
    highest[fields[2]] = math.max(highest[fields[2]] or 0, offset)
    if #gone == 500 then flush() end -- what `unpack` can take is limited
  end

  while (count > few or bytes > most_bytes) and count > 1 do
    local take
    if precious * 2 > most_events or precious_bytes * 2 > most_bytes then
      take = 'precious'
    elseif cut < top - 1 then
      at = at + 1
      if not batch[at] then
        batch = redis.call('XRANGE', LOG, '(' .. cut .. '-0', '+', 'COUNT', math.max(1, math.min(count - few, 32)))
        at = 1
      end
      local e = batch[at]
      local offset, flag = offset_of(e), e[2][6]
      if offset == top then damaged = true break end
      cut = offset
      if flag == 'f' or (flag ~= '0' and redis.call('HEXISTS', ASKED, string.sub(flag, 2)) == 1) then
        precious, precious_bytes = precious + 1, precious_bytes + #e[2][8]
      elseif flag ~= '0' or e[2][2] ~= '-' then
        drop(e)
      elseif plain <= share then
        reserved = reserved + 1
      elseif reserved == 0 then
        drop(e)
      else
        reserved, take = reserved + 1, 'reserved'
      end
    else
      take = reserved > 0 and 'reserved' or 'precious'
    end
    if take then
      flush() -- so that `first_left` sees what is left
      local victim
      if take == 'precious' then
        victim, precious_from = first_left(precious_from, cut, false)
        if not victim then damaged = true break end
        precious, precious_bytes = precious - 1, precious_bytes - #victim[2][8]
      else
        victim, reserved_from = first_left(reserved_from, cut, true)
        if not victim then damaged = true break end
        reserved = reserved - 1
      end
      drop(victim)
    end
  end
  flush()
  if damaged then
    redis.call('XTRIM', LOG, 'MINID', top .. '-0')
    cut, precious, precious_bytes, reserved, precious_from, reserved_from = top - 1, 0, 0, 0, top - 1, top - 1
  end
  return table.concat({ cut, precious, precious_bytes, reserved, precious_from, reserved_from }, ' '), count, bytes,
    plain, damaged
end
