-- Stream records: `-- include: session, record`.
-- s:<stream> = state|open|last|trimmed|replica|writer|counter|offset|previous|request id
--   state     r running, c closed
--   open      top of the log when the stream was opened
--   last      offset of its last event, 0 without one
--   trimmed   highest offset of its events that were dropped, 0 without one
--   writer counter offset previous   the last append with a key, for its repetition (request streams)
--   request id   JSON, last because it may contain anything

local function decode(text)
  local s, open, last, trimmed, replica, writer, counter, offset, previous, request =
    string.match(text, '^(.)|(%d+)|(%d+)|(%d+)|([^|]*)|([^|]*)|(%d*)|(%d*)|(%d*)|(.*)$')
  return {
    state = s, open = open, last = tonumber(last), trimmed = tonumber(trimmed), replica = replica,
    writer = writer, counter = counter, offset = offset, previous = previous, request = request,
  }
end

local function encode(r)
  return r.state .. '|' .. r.open .. '|' .. r.last .. '|' .. r.trimmed .. '|' .. r.replica .. '|' .. r.writer .. '|' ..
    r.counter .. '|' .. r.offset .. '|' .. r.previous .. '|' .. r.request
end
