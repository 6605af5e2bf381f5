-- Epochs: `-- include: session, fence`.
-- ARGV: 2 a random token: the next epoch, should one be needed.
-- An epoch is one life of the log. The master's incarnation in meta is the one that wrote last. When another one
-- finds it, writes may have been lost in between: what survived (the top) is fenced, and a new epoch begins. The
-- counter of offsets goes on.
-- f = "<epoch> <surviving top>;..." newest first, at most 8.

local MAX_FENCES = 8

-- The epoch that holds now, and the fences. Writes only when the incarnation changed.
local function fence(epoch, incarnation, top, fences)
  if incarnation == INCARNATION or INCARNATION == '?' then
    return epoch, fences
  end
  if incarnation == '?' then -- the first one to know it
    redis.call('HSET', META, 'i', INCARNATION)
    return epoch, fences
  end
  local kept, n = { epoch .. ' ' .. top .. ';' }, 1
  for one in string.gmatch(fences, '[^;]+;') do
    if n == MAX_FENCES then break end
    n = n + 1
    kept[n] = one
  end
  fences = table.concat(kept)
  redis.call('HSET', META, 'e', ARGV[2], 'i', INCARNATION, 'f', fences)
  return ARGV[2], fences
end

-- Up to where nothing that `asked_epoch` ever had was lost; false for an epoch that this log never had.
local function surviving(asked_epoch, epoch, top, fences)
  if asked_epoch == epoch then
    return top
  end
  for e, t in string.gmatch(fences, '([^ ;]+) (%d+);') do
    if e == asked_epoch then
      return tonumber(t)
    end
  end
  return false
end
