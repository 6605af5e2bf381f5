-- Requests to the client that wait for an answer: `-- include: session, ask`.
-- asked = id -> top of the log when it was asked|replica that waits|stream ("" = it is not in the log)

local MOST_ASKED = 1024

-- Accept one answer for `id`. At the limit the older half is forgotten: nobody answers a thousand questions.
local function ask(id, offset, replica, stream)
  redis.call('HSETNX', ASKED, id, offset .. '|' .. replica .. '|' .. stream)
  expire_with_meta(ASKED)
  if redis.call('HLEN', ASKED) <= MOST_ASKED then return end
  local all, order = redis.call('HGETALL', ASKED), {}
  for i = 1, #all, 2 do order[#order + 1] = { tonumber(string.match(all[i + 1], '^%d+')), all[i] } end
  table.sort(order, function(a, b) return a[1] < b[1] end)
  for i = 1, MOST_ASKED / 2 do
    if order[i][2] ~= id then redis.call('HDEL', ASKED, order[i][2]) end
  end
end

-- The stream has ended: nobody waits any more for answers to what was asked on it.
local function withdraw(stream)
  local asked = redis.call('HGETALL', ASKED)
  for i = 2, #asked, 2 do
    if string.match(asked[i], '^%d+|[^|]*|(.*)$') == stream then redis.call('HDEL', ASKED, asked[i - 1]) end
  end
end
