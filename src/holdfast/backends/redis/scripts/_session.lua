-- Shared by every script that works on one session. Not a script: the loader puts it before those that say
--   `-- include: session`.
-- KEYS: 1 meta (hash), 2 log (stream), 3 asked (hash), 4 inbox (hash), 5 subs (set), 6 activity (list); one slot.
-- ARGV: 1 incarnation of the master that runs this, "?" where it is not known.
-- Fields of meta: see keys.py.

local META, LOG, ASKED, INBOX, SUBS, ACTIVITY = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local INCARNATION = ARGV[1]

-- Slide the expiry of all keys of the session. It is written only when more than a sixteenth of the TTL has
-- passed since the last time, and then with a sixteenth on top: no session ends before its TTL has run out.
local function touch(ttl)
  ttl = tonumber(ttl)
  if redis.call('PTTL', META) < ttl then
    local life = math.floor(ttl * 17 / 16)
    for i = 1, 6 do
      redis.call('PEXPIRE', KEYS[i], life)
    end
  end
end

-- A key that has just come into being ends with meta. Call it after `touch`: then meta has an expiry.
local function expire_with_meta(key)
  redis.call('PEXPIRE', key, redis.call('PTTL', META))
end

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- One line of the session's biography for operators. `record` is JSON without its closing brace.
local function note(record)
  redis.call('RPUSH', ACTIVITY, record .. ',"at_ms":' .. string.format('%.0f', now_ms()) .. '}')
  redis.call('LTRIM', ACTIVITY, -64, -1)
  expire_with_meta(ACTIVITY)
end
