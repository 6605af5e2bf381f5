-- Version 1. Text that a client chooses is stored as UTF-8 bytes (BLOB): then any string survives.
-- Times are milliseconds since 1970, by the clock of the machine that all processes share.

-- One row. `life`: a new one whenever somebody opens the file while nobody else has it open. `next_*`: numbers
-- are never used twice, so a stale pointer points to nothing. `sessions`: rows in the table of that name.
CREATE TABLE file (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  id TEXT NOT NULL,
  life TEXT NOT NULL,
  next_event INTEGER NOT NULL,
  next_session INTEGER NOT NULL,
  sessions INTEGER NOT NULL
);

-- fences: JSON [[epoch, surviving top], ...] newest first. `life`: of the file, when `epoch` began.
CREATE TABLE sessions (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  owner BLOB,
  protocol_version TEXT NOT NULL,
  client BLOB NOT NULL,
  ttl_ms INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  epoch TEXT NOT NULL,
  life TEXT NOT NULL,
  fences TEXT NOT NULL DEFAULT '[]',
  settings_version INTEGER NOT NULL DEFAULT 0,
  log_level BLOB,
  holder_replica TEXT,
  holder_reader BLOB,
  takeover_at INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_by_owner ON sessions (owner, id);

-- What changes with each event, in rows so small that those of many sessions share a page.
-- `last`: id of the newest event, the start of the chain. `trims` grows whenever events are dropped.
-- `events`, `bytes`: how many are kept, and their payload.
CREATE TABLE heads (
  no INTEGER PRIMARY KEY,
  top INTEGER NOT NULL DEFAULT 0,
  last INTEGER NOT NULL DEFAULT 0,
  trims INTEGER NOT NULL DEFAULT 0,
  events INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0
);

-- Append-only, so that events of all sessions share pages and a commit writes few of them. An index would undo
-- that; instead `back` is the id of the session's event before, or of one that is no more (the end).
-- `previous`: offset of the event before in the same stream.
CREATE TABLE log (
  id INTEGER PRIMARY KEY,
  session INTEGER NOT NULL,
  back INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,
  previous INTEGER NOT NULL,
  final INTEGER NOT NULL,
  stream BLOB NOT NULL,
  writer BLOB,
  counter INTEGER,
  payload BLOB NOT NULL
);

-- `trimmed`: highest offset that was dropped. `closed`: offset of the final event, 0 while it runs.
-- `keys`: JSON [[writer, counter, offset, previous, final], ...] whose events were dropped.
CREATE TABLE streams (
  session INTEGER NOT NULL,
  name BLOB NOT NULL,
  replica TEXT,
  request_id TEXT,
  opened_at INTEGER NOT NULL,
  trimmed INTEGER NOT NULL DEFAULT 0,
  closed INTEGER NOT NULL DEFAULT 0,
  keys TEXT NOT NULL DEFAULT '[]',
  PRIMARY KEY (session, name)
) WITHOUT ROWID;

-- Requests to clients. `offset`, `stream`: where in the log; 0 and NULL for one that is not there.
CREATE TABLE asked (
  session INTEGER NOT NULL,
  request BLOB NOT NULL,
  replica TEXT NOT NULL,
  stream BLOB,
  "offset" INTEGER NOT NULL,
  answer BLOB,
  PRIMARY KEY (session, request)
) WITHOUT ROWID;
CREATE INDEX answered ON asked (replica) WHERE answer IS NOT NULL;

-- Ids of deleted sessions, for as long as these would have lived.
CREATE TABLE tombstones (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX tombstones_by_expiry ON tombstones (expires_at);

CREATE TABLE subscriptions (
  uri BLOB NOT NULL,
  session TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (uri, session)
) WITHOUT ROWID;
CREATE INDEX subscriptions_by_session ON subscriptions (session);
CREATE INDEX subscriptions_by_expiry ON subscriptions (expires_at);

-- Messages on their way to the other processes, for some seconds.
CREATE TABLE bus (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, topic BLOB NOT NULL, message BLOB NOT NULL);

CREATE TABLE replicas (id BLOB PRIMARY KEY, deadline INTEGER NOT NULL) WITHOUT ROWID;

-- Where to send hints: paths of datagram sockets.
CREATE TABLE listeners (replica TEXT PRIMARY KEY, address TEXT NOT NULL) WITHOUT ROWID;
