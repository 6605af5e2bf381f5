-- include: session, fence
-- Slide the session's expiry, take or refresh a replica's lease on its announcements, and return the top.
-- KEYS: session
-- ARGV: 3 replica   4 milliseconds of lease; 0: none is taken
-- Returns {"gone"} | {"ok", epoch, top, reader of the standalone stream or nil: see `g` in claim.lua}
-- Invariants: w = "<replica> <deadline ms>;...", each replica at most once; leases that ran out are dropped.

local m = redis.call('HMGET', META, 'e', 'i', 'o', 'f', 'l', 'w', 'g')
if not m[1] then return { 'gone' } end
local epoch = fence(m[1], m[2], m[3], m[4])
touch(m[5])
local lease = tonumber(ARGV[4])
if lease > 0 then
  local now = now_ms()
  local kept = { ARGV[3] .. ' ' .. string.format('%.0f', now + lease) .. ';' }
  for who, deadline in string.gmatch(m[6] or '', '([^ ;]+) (%d+);') do
    if who ~= ARGV[3] and tonumber(deadline) > now then kept[#kept + 1] = who .. ' ' .. deadline .. ';' end
  end
  redis.call('HSET', META, 'w', table.concat(kept))
end
return { 'ok', epoch, tonumber(m[3]), m[7] and string.match(m[7], '([^|]*)$') }
