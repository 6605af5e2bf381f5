-- include: session, fence, unanswered
-- Give the standalone stream to one reader; the newest wins, at most one takeover in a while.
-- KEYS: session
-- ARGV: 3 nonce of this call   4 replica   5 reader   6 epoch and 7 offset of the client's position ("" = none)
--       8 milliseconds between takeovers   9 activity record, without closing brace
-- Returns {"gone"} | {"wait", milliseconds, epoch, top}
--       | {"ok", epoch, offset, displaced replica, displaced reader, unanswered, 1 if it is the session's first}
--   unanswered = offset, previous, payload, ... of requests to the client before the start without an answer
-- Invariants: g = nonce|takeover ms|epoch|offset|displaced replica|displaced reader|replica|reader of the last
-- claim, so that its repetition returns the same; gf = nonce of the session's first claim.

local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'l', 'g')
if not m[1] then return { 'gone' } end
local epoch = fence(m[1], m[2], m[3], m[4])
touch(m[5])
local nonce, replica, reader = ARGV[3], ARGV[4], ARGV[5]
local old_nonce, takeover, old_epoch, old_offset, dis_replica, dis_reader, holder_replica, holder
if m[6] then
  old_nonce, takeover, old_epoch, old_offset, dis_replica, dis_reader, holder_replica, holder =
    string.match(m[6], '^([^|]*)|(%d+)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|(.*)$')
end

local start_epoch, start
if old_nonce == nonce then
  start_epoch, start = old_epoch, old_offset
else
  local now = now_ms()
  takeover = tonumber(takeover or 0)
  dis_replica, dis_reader = '', ''
  if holder and holder ~= reader then
    local since = now - takeover
    if since >= 0 and since < tonumber(ARGV[8]) then return { 'wait', tonumber(ARGV[8]) - since, epoch, tonumber(m[3]) } end
    takeover, dis_replica, dis_reader = now, holder_replica, holder
  end
  if ARGV[6] ~= '' then
    start_epoch, start = ARGV[6], ARGV[7]
  else
    start_epoch, start = epoch, m[6] and m[3] or '0'
  end
  redis.call('HSET', META, 'g', table.concat({ nonce, string.format('%.0f', takeover), start_epoch, start,
    dis_replica, dis_reader, replica, reader }, '|'))
  if not m[6] then redis.call('HSET', META, 'gf', nonce) end
  note(ARGV[9])
end

local waiting = ARGV[6] == '' and unanswered('-', 0, tonumber(start)) or {}
local first = redis.call('HGET', META, 'gf') == nonce
return { 'ok', start_epoch, start, dis_replica, dis_reader, waiting, first and 1 or 0 }
