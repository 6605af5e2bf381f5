r"""Every key, channel and field that this backend writes.

Part of the versioned interface: two releases share a store. One session (all in the slot of
`mcp:session:<sid>`, all with the expiry of meta):

| key | type | content |
|---|---|---|
| `mcp:session:<sid>` | list | for operators: the last 64 activity records, JSON |
| `{mcp:session:<sid>}:meta` | hash | below |
| `{mcp:session:<sid>}:log` | stream | every event as `<offset>-0`: s stream, p way back, f flag, d payload |
| `{mcp:session:<sid>}:asked` | hash | requests to the client that wait: id -> `offset\|replica\|stream` |
| `{mcp:session:<sid>}:inbox` | hash | answers not yet taken: id -> `put nonce\|take nonce\|answer` |
| `{mcp:session:<sid>}:subs` | set | subscribed uris |
| `{mcp:session:<sid>}:gone` | string | tombstone |

Fields of meta: e epoch, i incarnation, o top, f fences, d damaged up to, c entries, b bytes, y t trimmer's
place, w leases, k keys of writers of the standalone stream, g and gf claim, n stream records, s:<stream>
stream record; u owner, v protocol version, p client's params, l TTL in ms; sv settings version, sl log
level, sn nonce; bt top of the broadcasts when it was opened; rn nonce of the last restoration. Their values
are described in the scripts that write them.

Elsewhere (each group in a slot of its own; rosters are a pair of sorted sets, see `_roster.lua`):

| key | type | content |
|---|---|---|
| `{mcp:index}:sessions[:names]` | roster | all sessions |
| `{mcp:index}:owner:<digest>[:names]` | roster | the sessions of one principal |
| `{mcp:broadcast}:meta`, `:log` | hash, stream | what was said to all; see `_broadcast.lua` |
| `{mcp:sub:<hash of uri>}[:names]` | roster | the sessions that subscribed to a resource |
| `{mcp:replicas}:<id>` | string | a replica lives. All in one slot: whoever can beat can see who does not |
| `{mcp:canary}:<id>` | string | written and removed by a health check |
| `mcp:replica:<id>` | string | the same for the first release, which looks there |

Channels: `mcp:replica:<id>:inbox` carries hints for one replica, `mcp:bus:<topic>` what was published to a
topic, `mcp:broadcast` an announcement of each event for all: `1 <epoch> <offset> <payload>`, without its last
word if the payload is big. A hint is text, words separated by one space, the first is its version:

    1 e <sid>           there is a new event in the session
    1 a <sid> <id>      an answer to the request <id> arrived
    1 p <number>        this replica to itself: announcements arrive

The first kind may go on with the event itself: `<epoch> <offset> <previous> <f if final, else 0> <length of
the stream's name> <name><payload>`. Whoever knows only the first three words reads the log. A reader takes a
hint that it does not understand for "look at everything". A bus message is `1 ` and what was published.
"""

import hashlib
import json
import re
from typing import Final, NamedTuple
from urllib.parse import quote

from holdfast.errors import ConfigurationError, SessionGone
from holdfast.sessions.types import ReplicaId, SessionId

__all__ = ["Keys", "Roster", "SessionKeys", "activity", "check_replica", "decode", "encode", "quote_word"]

_SESSION_ID: Final = re.compile(r"[!-z|~]+")  # visible ASCII without braces
_WORD: Final = re.compile(r"[!-z~]+")  # the same without `|`
_CACHED: Final = 1024


class SessionKeys(NamedTuple):
    """The keys of one session, in the order in which the scripts know them."""

    meta: str
    log: str
    asked: str
    inbox: str
    subs: str
    activity: str


class BroadcastKeys(NamedTuple):
    """The keys of the broadcast log, in the order in which the scripts know them."""

    meta: str
    log: str


class Roster(NamedTuple):
    """A set whose members expire one by one."""

    when: str
    names: str


def encode(text: str) -> bytes:
    """Any text as bytes, even with the lone surrogates that JSON lets through."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """The text that `encode` was given."""
    return data.decode("utf-8", "surrogatepass")


def quote_word(text: str) -> str:
    """`text` without the separators that values in meta use."""
    return text if text.isalnum() and text.isascii() else quote(text, safe="-_", errors="surrogatepass")


def activity(kind: str, **details: object) -> str:
    """A line for the session's list of activities, without its closing brace: the script adds the time."""
    return json.dumps({"v": 1, "type": kind, **details}, separators=(",", ":"))[:-1]


class Keys:
    """Names under one prefix."""

    def __init__(self, prefix: str) -> None:
        if not _WORD.fullmatch(prefix):
            raise ConfigurationError(
                f"prefix of the store's keys is {prefix!r}; allowed: visible ASCII without {{ }} and |"
            )
        self._session = f"{prefix}:session:"
        self._prefix = prefix
        self._cache: dict[str, SessionKeys] = {}
        self.sessions: Final = self._roster(f"{{{prefix}:index}}:sessions")
        self.broadcasts: Final = BroadcastKeys(f"{{{prefix}:broadcast}}:meta", f"{{{prefix}:broadcast}}:log")
        self.broadcast_channel: Final = encode(f"{prefix}:broadcast")
        self.channel_head: Final = f"{prefix}:replica:"
        self.channel_tail: Final = ":inbox"

    @staticmethod
    def _roster(name: str) -> Roster:
        return Roster(name, f"{name}:names")

    def session(self, session: SessionId) -> SessionKeys:
        """The keys of a session.

        Raises:
            SessionGone: no session can have this id.
        """
        keys = self._cache.get(session)
        if keys is None:
            keys = self._build(session)
        return keys

    def _build(self, session: SessionId) -> SessionKeys:
        if not self.valid(session):
            raise SessionGone("no session can have this id")
        name = f"{self._session}{session}"
        tag = f"{{{name}}}"
        keys = SessionKeys(f"{tag}:meta", f"{tag}:log", f"{tag}:asked", f"{tag}:inbox", f"{tag}:subs", name)
        if len(self._cache) >= _CACHED:  # a cache of names, not of sessions: starting anew costs microseconds
            self._cache.clear()
        self._cache[session] = keys
        return keys

    @staticmethod
    def valid(session: str) -> bool:
        """Whether a session can have this id."""
        return _SESSION_ID.fullmatch(session) is not None

    def tombstone(self, session: SessionId) -> str:
        """Says that a session with this id was deleted."""
        return f"{{{self._session}{session}}}:gone"

    def owner(self, owner: str) -> Roster:
        """The sessions of one principal."""
        return self._roster(f"{{{self._prefix}:index}}:owner:{quote_word(owner)}")

    def subscribers(self, uri: str) -> Roster:
        """The sessions that subscribed to a resource."""
        digest = hashlib.sha256(encode(uri)).hexdigest()[:32]
        return self._roster(f"{{{self._prefix}:sub:{digest}}}")

    def replica(self, replica: ReplicaId) -> str:
        """Whether a replica lives."""
        return f"{{{self._prefix}:replicas}}:{quote_word(replica)}"

    def canary(self, replica: ReplicaId) -> str:
        """What a replica writes, reads and removes to see whether that works."""
        return f"{{{self._prefix}:canary}}:{quote_word(replica)}"

    def first_replica(self, replica: ReplicaId) -> str:
        """The same, where the first release looks for it."""
        return f"{self._prefix}:replica:{quote_word(replica)}"

    def channel(self, replica: ReplicaId) -> str:
        """Where hints for a replica go."""
        return f"{self.channel_head}{replica}{self.channel_tail}"

    def topic(self, topic: str) -> bytes:
        """Where messages of a topic go."""
        return encode(f"{self._prefix}:bus:{topic}")


def check_replica(replica: str) -> ReplicaId:
    """`replica`, if it can be a part of keys and values.

    Raises:
        ConfigurationError: it cannot.
    """
    if not _WORD.fullmatch(replica) or "." in replica or ";" in replica:
        raise ConfigurationError(f"replica id is {replica!r}; allowed: visible ASCII without {{ }} | ; and .")
    return ReplicaId(replica)
