-- Version 2. `heads` are no longer written with each event, but for many events at once ("folded"), because an
-- append to a random session would else write a page of its own.

-- Ids of `log` up to here are in `heads`. What comes after is found by reading `log` from here on; there is at
-- most as much as `tail.FOLDED_AT`, save what nobody came to fold.
ALTER TABLE file ADD COLUMN folded INTEGER NOT NULL DEFAULT 0;
UPDATE file SET folded = next_event - 1;

-- Offsets of the events that the last trim dropped: JSON [[first, last], ...]. Who knows the log as it was
-- before needs to read nothing else.
ALTER TABLE heads ADD COLUMN dropped TEXT NOT NULL DEFAULT '[]';
