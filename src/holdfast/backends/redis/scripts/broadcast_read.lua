-- include: broadcast, fence
-- What was said to all sessions after a position.
-- KEYS: meta and log of the broadcasts
-- ARGV: 3 epoch of the position ("" = before everything)   4 its offset   5 most events   6 most bytes (one event
--       always fits)
-- Returns {"trimmed" or "epoch", resume offset, resume epoch} | {"ok", epoch, cursor, 1 if nothing more was there,
--       events}: offset, payload, offset, ...

local asked_epoch, after = ARGV[3], tonumber(ARGV[4])
local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'z')
if not m[1] then
  if asked_epoch == '' then return { 'ok', '', 0, 1, {} } end
  return { 'epoch', 0, '' }
end
local top, trimmed = tonumber(m[3]), tonumber(m[5])
local epoch, fences = fence(m[1], m[2], m[3], m[4])
if redis.call('XLEN', LOG) ~= top - trimmed then -- somebody deleted or evicted the key
  redis.call('DEL', LOG)
  redis.call('HSET', META, 'z', top, 'b', 0)
  trimmed = top
end
if asked_epoch == '' then asked_epoch, after = epoch, 0 end
local survived = surviving(asked_epoch, epoch, top, fences)
if not survived or (after > survived and asked_epoch == epoch) then return { 'epoch', trimmed, epoch } end
if after > survived then return { 'epoch', math.max(survived, trimmed), epoch } end
if after < trimmed then return { 'trimmed', trimmed, epoch } end

local most_events, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local events, n, bytes, cursor = {}, 0, 0, after
while cursor < top and n < most_events * 2 and bytes < most_bytes do
  local batch = redis.call('XRANGE', LOG, '(' .. cursor .. '-0', '+', 'COUNT', math.min(100, most_events - n / 2))
  for _, e in ipairs(batch) do
    cursor = cursor + 1
    events[n + 1], events[n + 2] = cursor, e[2][2]
    n, bytes = n + 2, bytes + #e[2][2]
    if bytes >= most_bytes then break end
  end
end
return { 'ok', epoch, cursor, cursor == top and 1 or 0, events }
