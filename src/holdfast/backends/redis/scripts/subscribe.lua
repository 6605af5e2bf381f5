-- include: session
-- Remember with a session that it subscribed to a resource. Works for a session that nobody opened: the index is
-- advisory, and a subscription that belongs to nothing expires by itself.
-- KEYS: session, 7 tombstone
-- ARGV: 2 uri   3 most subscriptions   4 TTL in ms
-- Returns "gone": it was deleted | "full" | "ok"

if redis.call('EXISTS', KEYS[7]) == 1 then return 'gone' end
if redis.call('SCARD', SUBS) >= tonumber(ARGV[3]) and redis.call('SISMEMBER', SUBS, ARGV[2]) == 0 then return 'full' end
redis.call('SADD', SUBS, ARGV[2])
if redis.call('PTTL', SUBS) < tonumber(ARGV[4]) then redis.call('PEXPIRE', SUBS, ARGV[4]) end
return 'ok'
