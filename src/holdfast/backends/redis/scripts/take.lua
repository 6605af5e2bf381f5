-- include: session
-- Hand out an answer, to one call only. The caller deletes it when it has it: a lost reply loses no answer.
-- KEYS: session
-- ARGV: 2 nonce of this call   3 request id
-- Returns {"gone"} | {"none"} | {"ok", answer}

if redis.call('EXISTS', META) == 0 then return { 'gone' } end
local there = redis.call('HGET', INBOX, ARGV[3])
if not there then return { 'none' } end
local put, taken, answer = string.match(there, '^([^|]*)|([^|]*)|(.*)$')
if taken == '' then
  redis.call('HSET', INBOX, ARGV[3], put .. '|' .. ARGV[2] .. '|' .. answer)
elseif taken ~= ARGV[2] then
  return { 'none' }
end
return { 'ok', answer }
