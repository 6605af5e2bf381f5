-- include: session, ask
-- Accept one answer for a request to the client that is not in the log.
-- KEYS: session
-- ARGV: 2 replica   3 request id
-- Returns 0: gone | 1

local m = redis.call('HMGET', META, 'l', 'o')
if not m[1] then return 0 end
touch(m[1])
ask(ARGV[3], m[2], ARGV[2], '')
return 1
