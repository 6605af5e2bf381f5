-- Requests to the client without an answer: `-- include: session, unanswered`.

-- Those of `stream` with an offset in (from, to] that are in the log: offset, previous, payload, offset, ...
local function unanswered(stream, from, to)
  local asked, offsets, found = redis.call('HGETALL', ASKED), {}, {}
  for i = 2, #asked, 2 do
    local o, of = string.match(asked[i], '^(%d+)|[^|]*|(.*)$')
    o = tonumber(o)
    if of == stream and o > from and o <= to then offsets[#offsets + 1] = o end
  end
  table.sort(offsets)
  for _, o in ipairs(offsets) do
    local e = redis.call('XRANGE', LOG, o .. '-0', o .. '-0')[1]
    if e then
      local n = #found
      found[n + 1], found[n + 2], found[n + 3] = o, o - e[2][4], e[2][8]
    end
  end
  return found
end
