-- Shared by the scripts of the broadcast log: `-- include: broadcast, fence`.
-- KEYS: 1 meta (hash), 2 log (stream); one slot, one expiry.
-- ARGV: 1 incarnation of the master that runs this, "?" where it is not known.
-- Fields of meta: e epoch, i incarnation, o top, f fences (see fence), z trimmed up to, b bytes of payload in the
-- log, k last keys of the writers. Entries of the log are `<offset>-0`: d payload.
-- Invariants: offsets are dense, so the log holds exactly the entries from z + 1 to o.

local META, LOG = KEYS[1], KEYS[2]
local INCARNATION = ARGV[1]

-- Slide the expiry, if a sixteenth of it has passed. A key that has just come into being gets it, too.
local function touch(ttl)
  ttl = tonumber(ttl)
  if redis.call('PTTL', META) < ttl or redis.call('PTTL', LOG) == -1 then
    local life = math.floor(ttl * 17 / 16)
    redis.call('PEXPIRE', META, life)
    redis.call('PEXPIRE', LOG, life)
  end
end
