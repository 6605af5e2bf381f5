-- include: session
-- Give a replica's lease back. Nobody waits for the result: a lease that stays runs out.
-- KEYS: session
-- ARGV: 2 replica
-- Returns 1

local leases = redis.call('HGET', META, 'w')
if leases then
  local kept = {}
  for who, deadline in string.gmatch(leases, '([^ ;]+) (%d+);') do
    if who ~= ARGV[2] then kept[#kept + 1] = who .. ' ' .. deadline .. ';' end
  end
  redis.call('HSET', META, 'w', table.concat(kept))
end
return 1
