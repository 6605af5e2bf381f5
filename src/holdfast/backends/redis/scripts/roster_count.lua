-- include: roster
-- How many members of a roster have not run out.
-- KEYS: one pair
-- Returns the number

local now = now_ms()
purge(KEYS[1], KEYS[2], now)
return redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf')
