"""Whole sessions out of the server, and into it. The formats are those of the scripts; see `keys`."""

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from holdfast.backends.redis import scripts
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.connection import Argument
from holdfast.backends.redis.keys import Keys, activity, decode, encode
from holdfast.backends.redis.rosters import Rosters
from holdfast.backends.redis.session_store import place_in
from holdfast.errors import SessionExists
from holdfast.sessions.image import AskedImage, SessionImage, StreamImage
from holdfast.sessions.protocols import Transfer
from holdfast.sessions.types import (
    STANDALONE,
    Event,
    Position,
    ReplicaId,
    SessionFacts,
    SessionId,
    Settings,
    StreamId,
    StreamState,
    advisory_ttl,
    shorten,
)

__all__ = ["RedisTransfer"]

_FENCE: Final = re.compile(rb"([^ ;]+) (\d+);")


class RedisTransfer(Transfer):
    """Whole sessions out of this server, and into it."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._rosters = Rosters(client)

    @override
    async def dump(self, session: SessionId) -> SessionImage | None:
        if not self._keys.valid(session):
            return None
        keys, args = self._keys.session(session), (secrets.token_hex(6),)
        reply = await self._client.run(scripts.DUMP, keys, args, safe=True)
        return None if reply is None else _image(session, *reply)

    @override
    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        facts = image.facts
        if not self._keys.valid(facts.id):
            raise ValueError("session id: allowed is visible ASCII without { and }")
        ttl_ms = max(1, round(facts.ttl_seconds * 1000))
        parts = (_meta(image, ttl_ms), _entries(image), _asked(image), _answers(image))
        sizes = " ".join(str(len(part)) for part in parts)
        args: list[Argument] = [secrets.token_hex(8), *(("", "", "") if over is None else over.state)]
        args += [ttl_ms, activity("session.restored", epoch=image.epoch, top=image.top), sizes]
        args += [word for part in parts for record in part for word in record]
        keys = (*self._keys.session(facts.id), self._keys.tombstone(facts.id))
        (status,) = await self._client.run(scripts.RESTORE, keys, args, safe=True)
        if status != b"ok":
            why = "was deleted" if status == b"deleted" else "is in use"
            raise SessionExists(f"the id {shorten(facts.id)} {why}")
        rosters = [self._keys.sessions]
        if facts.owner is not None:
            rosters.append(self._keys.owner(facts.owner))
        await self._rosters.add(rosters, facts.id, ttl_seconds=advisory_ttl(facts))


# -- from Redis


def _image(
    session: SessionId, meta: list[bytes], log: list[Any], asked: list[bytes], inbox: list[bytes]
) -> SessionImage:
    fields = dict(zip(meta[::2], meta[1::2], strict=True))
    epoch, owner, level = fields[b"e"].decode(), decode(fields[b"u"]), fields.get(b"sl")
    facts = SessionFacts(
        session,
        owner[1:] if owner[0] == "=" else None,
        fields[b"v"].decode(),
        fields[b"p"],
        int(fields[b"l"]) / 1000,
        place_in(fields.get(b"bt")),
    )
    events = tuple(_event(epoch, *entry) for entry in log)
    damaged = int(fields.get(b"d", 0))
    streams = [_stream(name[2:], text, damaged) for name, text in fields.items() if name.startswith(b"s:")]
    kept = {event.position.offset for event in events}
    waiting = [_waiting(*pair, kept) for pair in zip(asked[::2], asked[1::2], strict=True)]
    answers = [_answer(*pair) for pair in zip(inbox[::2], inbox[1::2], strict=True)]
    return SessionImage(
        facts,
        Settings(int(fields[b"sv"]), None if level is None else decode(level)),
        epoch,
        int(fields[b"o"]),
        tuple((name.decode(), int(top)) for name, top in _FENCE.findall(fields[b"f"])),
        tuple(sorted(streams, key=lambda stream: stream.name)),
        events,
        tuple(sorted((*waiting, *filter(None, answers)), key=lambda one: one.request_id)),
        _holder(fields.get(b"g")),
    )


def _event(epoch: str, entry: bytes, fields: list[bytes]) -> Event:
    offset = int(entry.partition(b"-")[0])
    _, stream, _, back, _, flag, _, payload = fields
    return Event(
        StreamId(decode(stream)), Position(epoch, offset), offset - int(back), payload, final=flag == b"f"
    )


def _stream(name: bytes, text: bytes, damaged: int) -> StreamImage:
    state, opened_at, last, trimmed, replica, *_, request = text.split(b"|", 9)
    return StreamImage(
        StreamId(decode(name)),
        StreamState(
            running=state == b"r",
            replica=ReplicaId(replica.decode()) if replica else None,
            request_id=json.loads(request) if request else None,
        ),
        int(opened_at),
        max(int(trimmed), min(int(last), damaged)),
    )


def _waiting(request_id: bytes, text: bytes, kept: set[int]) -> AskedImage:
    offset, replica, stream = text.split(b"|", 2)
    logged = bool(stream) and int(offset) in kept
    return AskedImage(decode(request_id), ReplicaId(replica.decode()), int(offset) if logged else None)


def _answer(request_id: bytes, text: bytes) -> AskedImage | None:
    _, taken, answer = text.split(b"|", 2)
    return None if taken else AskedImage(decode(request_id), ReplicaId(""), answer=answer)


def _holder(text: bytes | None) -> tuple[ReplicaId, str] | None:
    if text is None:
        return None
    *_, replica, reader = text.split(b"|", 7)
    return ReplicaId(replica.decode()), decode(reader)


# -- to Redis


def _meta(image: SessionImage, ttl_ms: int) -> list[tuple[Argument, Argument]]:
    facts, settings, events = image.facts, image.settings, image.events
    last = {event.stream: event.position.offset for event in events}
    plain = _plain(image)
    meta: list[tuple[Argument, Argument]] = [
        ("e", image.epoch),
        ("o", image.top),
        ("f", "".join(f"{epoch} {top};" for epoch, top in image.fences)),
        ("c", len(events)),
        ("b", sum(len(event.payload) for event in events)),
        ("y", plain),
        ("t", "0 0 0 0 0 0"),
        ("u", encode("-" if facts.owner is None else f"={facts.owner}")),
        ("v", facts.protocol_version),
        ("p", facts.client),
        ("l", ttl_ms),
        ("bt", f"{facts.broadcast.epoch} {facts.broadcast.offset}"),
        ("sv", settings.version),
        ("n", len(image.streams) - 1),
    ]
    if settings.log_level is not None:
        meta.append(("sl", encode(settings.log_level)))
    if image.holder is not None:
        replica, reader = image.holder
        meta.append(("g", encode(f"|0|||||{replica}|{reader}")))
    meta += [(encode(f"s:{one.name}"), _record(one, last.get(one.name, 0))) for one in image.streams]
    return meta


def _record(stream: StreamImage, newest: int) -> bytes:
    state, request = stream.state, ""
    if stream.name != STANDALONE:
        request = json.dumps(state.request_id)
    kind, last = "r" if state.running else "c", max(newest, stream.trimmed)
    replica = state.replica or ""
    return encode(f"{kind}|{stream.opened_at}|{last}|{stream.trimmed}|{replica}|||||{request}")


def _questions(image: SessionImage) -> dict[int, str]:
    """Requests that wait, by offset."""
    return {asked.offset: asked.request_id for asked in image.asked if asked.offset is not None}


def _plain(image: SessionImage) -> int:
    questions = _questions(image)
    return sum(
        event.stream == STANDALONE and event.position.offset not in questions for event in image.events
    )


def _entries(image: SessionImage) -> list[tuple[Argument, ...]]:
    questions = _questions(image)
    entries: list[tuple[Argument, ...]] = []
    for event in image.events:
        offset = event.position.offset
        flag = "f" if event.final else f"x{questions[offset]}" if offset in questions else "0"
        entries.append((offset, encode(event.stream), offset - event.previous, encode(flag), event.payload))
    return entries


def _asked(image: SessionImage) -> list[tuple[Argument, Argument]]:
    streams = {event.position.offset: event.stream for event in image.events}
    found: list[tuple[Argument, Argument]] = []
    for asked in image.asked:
        if asked.answer is None:
            offset, stream = (
                (image.top, "") if asked.offset is None else (asked.offset, streams[asked.offset])
            )
            found.append((encode(asked.request_id), encode(f"{offset}|{asked.replica}|{stream}")))
    return found


def _answers(image: SessionImage) -> list[tuple[Argument, Argument]]:
    answers: Sequence[AskedImage] = [asked for asked in image.asked if asked.answer is not None]
    return [(encode(one.request_id), b"||" + (one.answer or b"")) for one in answers]
