-- Version 3: what is said to all sessions.

-- Top of the broadcasts when the session was opened; '' and 0: there were none.
ALTER TABLE sessions ADD COLUMN broadcast_epoch TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN broadcast_offset INTEGER NOT NULL DEFAULT 0;

-- One row once something was broadcast. `epoch`, `life`, `fences`: as in `sessions`. Kept are the events from
-- `trimmed` + 1 to `top`, with so many `bytes` of payload.
CREATE TABLE broadcast_head (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch TEXT NOT NULL,
  life TEXT NOT NULL,
  fences TEXT NOT NULL DEFAULT '[]',
  top INTEGER NOT NULL DEFAULT 0,
  trimmed INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER NOT NULL
);
CREATE TABLE broadcasts ("offset" INTEGER PRIMARY KEY, payload BLOB NOT NULL);

-- The last key of each writer, and the event that was stored under it.
CREATE TABLE broadcast_writers (
  writer BLOB PRIMARY KEY,
  counter INTEGER NOT NULL,
  "offset" INTEGER NOT NULL
) WITHOUT ROWID;
