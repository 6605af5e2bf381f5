"""`Diagnosis` of Redis, Valkey, their sentinels' master or the masters of a cluster."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import hiredis
from typing_extensions import override

from holdfast.backends.redis.connection import ConnectionLost
from holdfast.backends.redis.keys import Keys
from holdfast.backends.redis.link import Link, error_code
from holdfast.backends.redis.location import Location
from holdfast.backends.redis.topology import Topology
from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.diagnosis import Diagnosis, StoreFacts
from holdfast.sessions.types import ReplicaId

__all__ = ["RedisDiagnosis"]

_CANARY_MILLISECONDS: Final = 10_000
_WAIT_SECONDS: Final = 0.5
_MODES: Final = {"standalone": "redis", "sentinel": "sentinel", "cluster": "cluster"}
_SECTIONS: Final = ("server", "clients", "memory", "persistence", "stats", "replication")
"""One by one: Redis 6.2 takes one section at a time, and all of them at once are ten times as long."""

_Info: TypeAlias = Mapping[str, str]


class RedisDiagnosis(Diagnosis):
    """What servers can say of themselves."""

    def __init__(self, topology: Topology, keys: Keys, location: Location, replica: ReplicaId) -> None:
        self._topology = topology
        self._key = keys.canary(replica)
        self._mode = _MODES[location.mode]
        self._encrypted = location.server.tls is not None

    @property
    @override
    def mode(self) -> str:
        return self._mode

    @override
    async def facts(self) -> StoreFacts:
        await self._topology.ready(self._key, _WAIT_SECONDS)
        links = self._topology.links()
        found = await asyncio.gather(*(_ask(link) for link in links))
        return _merged([one for one in found if one is not None], self._mode, encrypted=self._encrypted)

    @override
    async def canary(self) -> None:
        link = await self._topology.ready(self._key, _WAIT_SECONDS)
        nonce = secrets.token_hex(8).encode()
        send = link.connection.send
        sent = (
            send("SET", self._key, nonce, "PX", _CANARY_MILLISECONDS),
            send("GET", self._key),
            send("DEL", self._key),
        )
        written, read, _ = [await each for each in sent]
        for reply in (written, read):
            if isinstance(reply, ConnectionLost):
                raise StoreUnavailable(f"the connection was lost: {reply}") from reply
            if isinstance(reply, hiredis.ReplyError):
                raise StoreRefused(f"the store refused a write: {reply}") from reply
        if read != nonce:
            raise StoreRefused("the store lost what was written to it at once")


class _Answers:
    """What one server answered."""

    def __init__(self, info: _Info, skew: float | None, save: str | None, seconds: float) -> None:
        self.info = info
        self.skew = skew
        self.save = save
        self.seconds = seconds
        self.denied: list[str] = []

    def number(self, name: str) -> int | None:
        """A field of INFO."""
        text = self.info.get(name, "")
        return int(text) if text.isdigit() else None


async def _ask(link: Link) -> _Answers | None:
    """Ask one server everything in one round trip; None if the connection broke meanwhile."""
    send = link.connection.send
    began, clock = time.monotonic(), time.time()
    commands = [("INFO", ("INFO", section)) for section in _SECTIONS]
    ping = send("PING")
    sent = [(name, send(*command)) for name, command in commands]
    sent += [("TIME", send("TIME")), ("CONFIG GET", send("CONFIG", "GET", "save"))]
    if isinstance(await ping, ConnectionLost):
        return None
    seconds = time.monotonic() - began
    replies: list[tuple[str, Any]] = [(name, await reply) for name, reply in sent]
    info: dict[str, str] = {}
    denied: dict[str, None] = {}
    skew, save = None, None
    for name, reply in replies:
        if isinstance(reply, ConnectionLost):
            return None
        if isinstance(reply, hiredis.ReplyError):
            if error_code(reply) == "NOPERM" or name == "CONFIG GET":  # renamed away is not permitted either
                denied[name] = None
        elif name == "INFO":
            info |= _parse(reply)
        elif name == "TIME":
            # Within a round trip nobody can say more; below a hundredth it says nothing.
            skew = int(reply[0]) + int(reply[1]) / 1e6 - (clock + seconds / 2)
        else:
            save = _config_value(reply)
    answers = _Answers(info, skew, save, seconds)
    answers.denied = list(denied)
    return answers


def _parse(reply: Any) -> _Info:
    text: str = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and line[0] != "#")


def _config_value(reply: Any) -> str | None:
    if isinstance(reply, dict):
        values: Sequence[Any] = list(reply.values())  # pyright: ignore[reportUnknownArgumentType]
    else:
        values = reply[1:2]
    return values[0].decode() if values and isinstance(values[0], bytes) else None


def _merged(found: Sequence[_Answers], mode: str, *, encrypted: bool) -> StoreFacts:
    if not found:
        raise StoreUnavailable("the connection was lost while the store was asked")
    first = found[0].info
    evicting = [one for one in found if one.info.get("maxmemory_policy", "noeviction") != "noeviction"]
    skews = [one.skew for one in found if one.skew is not None]
    valkey = first.get("server_name") == "valkey" or "valkey_version" in first
    followers = [follower for one in found for follower in _followers(one)]
    saves = [one.save for one in found if one.save is not None]
    return StoreFacts(
        product="Valkey" if valkey else "Redis",
        mode=mode,
        version=first.get("valkey_version") or first.get("redis_version"),
        latency_seconds=max(one.seconds for one in found),
        role=first.get("role"),
        uptime_seconds=_over(min, found, "uptime_in_seconds"),
        connected_clients=_over(sum, found, "connected_clients"),
        used_memory_bytes=_over(sum, found, "used_memory"),
        maxmemory_bytes=_over(sum, found, "maxmemory"),
        maxmemory_policy=(evicting or found)[0].info.get("maxmemory_policy"),
        evicted_keys=_over(sum, found, "evicted_keys"),
        append_only=all(one.info["aof_enabled"] == "1" for one in found) if "aof_enabled" in first else None,
        snapshots=all(saves) if saves else None,
        last_save_failed=any(_failed_save(one.info) for one in found) if "aof_enabled" in first else None,
        replicas=_over(sum, found, "connected_slaves"),
        replica_lag_seconds=max((float(lag) for lag, _ in followers), default=None),
        replica_lag_bytes=max((behind for _, behind in followers), default=None),
        clock_skew_seconds=max(skews, key=abs, default=None),
        encrypted=encrypted,
        not_permitted=tuple(sorted({name for one in found for name in one.denied})),
    )


def _over(fold: Callable[[Sequence[int]], int], found: Sequence[_Answers], name: str) -> int | None:
    numbers = [number for one in found if (number := one.number(name)) is not None]
    return fold(numbers) if numbers else None


def _failed_save(info: _Info) -> bool:
    return "err" in {info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status")}


def _followers(one: _Answers) -> list[tuple[int, int]]:
    """Of each server that follows: for how many seconds it was silent, how many bytes it is behind."""
    top = one.number("master_repl_offset") or 0
    lines = [text for name, text in one.info.items() if re.fullmatch(r"slave\d+", name)]
    fields = [dict(part.split("=", 1) for part in line.split(",") if "=" in part) for line in lines]
    return [
        (max(0, int(each.get("lag", 0))), max(0, top - int(each.get("offset", top))))
        for each in fields
        if each.get("state") == "online"
    ]
