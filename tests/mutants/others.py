# pyright: reportPrivateUsage=false
"""Broken buses, indexes of subscriptions and directories of replicas."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from typing_extensions import override

from holdfast.backends.memory import MemoryData
from holdfast.backends.memory.bus import MemoryBus
from holdfast.backends.memory.replicas import MemoryReplicaDirectory
from holdfast.backends.memory.subscription_index import MemorySubscriptionIndex
from holdfast.sessions.types import ReplicaId, SessionId
from holdfast.testing.conformance import BusSuite, ReplicaDirectorySuite, SubscriptionIndexSuite
from tests.mutants.catalogue import must_fail

# --- bus ---------------------------------------------------------------------------------------------------


@must_fail(BusSuite)
class NotToMyself(MemoryBus):
    """The publisher's own replica hears nothing."""

    def __init__(self, data: MemoryData) -> None:
        super().__init__(data)
        self._mine: list[Callable[[bytes], None]] = []

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        for receive in self._data.subscribers.of(topic):
            if receive not in self._mine:
                receive(message)

    @override
    @asynccontextmanager
    async def _subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        self._mine.append(receive)
        async with super()._subscribe(topic, receive):
            yield


@must_fail(BusSuite)
class TopicsByPrefix(MemoryBus):
    """A subscriber hears every topic that begins like its own."""

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        for length in range(1, len(topic) + 1):
            await super().publish(topic[:length], message)


@must_fail(BusSuite)
class TopicsInAnyCase(MemoryBus):
    """`close` and `CLOSE` are one topic."""

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        await super().publish(topic.lower(), message)


@must_fail(BusSuite)
class SubscribedForEver(MemoryBus):
    """Whoever has left goes on hearing."""

    @override
    @asynccontextmanager
    async def _subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        self._data.subscribers._by_key[topic].append(receive)
        yield


@must_fail(BusSuite)
class LeavingSilencesAll(MemoryBus):
    """When one subscriber leaves, the topic is silent."""

    @override
    @asynccontextmanager
    async def _subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        self._data.subscribers._by_key[topic].append(receive)
        yield
        self._data.subscribers._by_key.pop(topic, None)


@must_fail(BusSuite)
class LaterFirst(MemoryBus):
    """Messages of one publisher change places."""

    def __init__(self, data: MemoryData) -> None:
        super().__init__(data)
        self._held: bytes | None = None

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        if self._held is None and message == b"3":
            self._held = message
            return
        await super().publish(topic, message)
        if self._held is not None:
            await super().publish(topic, self._held)
            self._held = None


@must_fail(BusSuite)
class MessagesAsText(MemoryBus):
    """Messages are text on the way."""

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        await super().publish(topic, message.decode(errors="replace").encode())


# --- subscriptions -----------------------------------------------------------------------------------------


@must_fail(SubscriptionIndexSuite)
class FoundFromTheSessionOnly(MemorySubscriptionIndex):
    """Nobody is found from the resource."""

    @override
    async def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        nobody: Sequence[Sequence[SessionId]] = ()
        for batch in nobody:
            yield batch


@must_fail(SubscriptionIndexSuite)
class FoundFromTheResourceOnly(MemorySubscriptionIndex):
    """A session does not know what it subscribed to."""

    @override
    async def uris(self, session: SessionId) -> Sequence[str]:
        return []


@must_fail(SubscriptionIndexSuite)
class SubscribedForEverAndEver(MemorySubscriptionIndex):
    """Subscriptions do not expire."""

    @override
    async def add(self, session: SessionId, uri: str, *, ttl_seconds: float) -> None:
        await super().add(session, uri, ttl_seconds=1e9)


@must_fail(SubscriptionIndexSuite)
class OneExpiryPerResource(MemorySubscriptionIndex):
    """A resource's subscriptions all expire with the last one."""

    @override
    async def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        sessions = self._data.subscribed.get(uri, {})
        if sessions and max(sessions.values()) > self._data.clock():
            yield list(sessions)


@must_fail(SubscriptionIndexSuite)
class RefreshesTheFirst(MemorySubscriptionIndex):
    """Of several subscriptions of a session one is kept."""

    @override
    async def refresh(self, session: SessionId, *, ttl_seconds: float) -> None:
        for uri in (await self.uris(session))[:1]:
            self._put(session, uri, self._data.clock() + ttl_seconds)


@must_fail(SubscriptionIndexSuite)
class RefreshesOneSide(MemorySubscriptionIndex):
    """The session remembers, the resource forgets."""

    @override
    async def refresh(self, session: SessionId, *, ttl_seconds: float) -> None:
        for uri in await self.uris(session):
            self._data.subscriptions[session][uri] = self._data.clock() + ttl_seconds


@must_fail(SubscriptionIndexSuite)
class DropsOneSide(MemorySubscriptionIndex):
    """A dropped session is still found from the resource."""

    @override
    async def drop(self, session: SessionId) -> None:
        self._data.subscriptions.pop(session, None)


@must_fail(SubscriptionIndexSuite)
class RemovesAll(MemorySubscriptionIndex):
    """Unsubscribing from one resource unsubscribes from all."""

    @override
    async def remove(self, session: SessionId, uri: str) -> None:
        await self.drop(session)


@must_fail(SubscriptionIndexSuite)
class UrisUnsorted(MemorySubscriptionIndex):
    """What a session subscribed to comes in no order."""

    @override
    async def uris(self, session: SessionId) -> Sequence[str]:
        return (await super().uris(session))[::-1]


@must_fail(SubscriptionIndexSuite)
class UrisTidied(MemorySubscriptionIndex):
    """White space around a uri is lost."""

    @override
    async def add(self, session: SessionId, uri: str, *, ttl_seconds: float) -> None:
        await super().add(session, uri.replace("\0", "").replace(" ", "%20"), ttl_seconds=ttl_seconds)


@must_fail(SubscriptionIndexSuite)
class OneBigBatch(MemorySubscriptionIndex):
    """All sessions come at once."""

    @override
    async def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        yield [session async for batch in super().sessions(uri) for session in batch]


@must_fail(SubscriptionIndexSuite)
class FirstBatchOnly(MemorySubscriptionIndex):
    """The rest is forgotten."""

    @override
    async def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        for batch in [batch async for batch in super().sessions(uri)][:1]:
            yield batch


# --- replicas ----------------------------------------------------------------------------------------------


@must_fail(ReplicaDirectorySuite)
class ImmortalReplicas(MemoryReplicaDirectory):
    """Who has beaten once lives for ever."""

    @override
    async def alive(self, replica: ReplicaId) -> bool:
        return replica in self._data.replicas


@must_fail(ReplicaDirectorySuite)
class EverybodyLives(MemoryReplicaDirectory):
    """Who was never heard of lives."""

    @override
    async def alive(self, replica: ReplicaId) -> bool:
        return self._data.replicas.get(replica, float("inf")) > self._data.clock()


@must_fail(ReplicaDirectorySuite)
class SecondBeatIgnored(MemoryReplicaDirectory):
    """Only the first beat counts."""

    @override
    async def beat(self, ttl_seconds: float, *, of: ReplicaId | None = None) -> None:
        if self._replica not in self._data.replicas:
            await super().beat(ttl_seconds, of=of)


@must_fail(ReplicaDirectorySuite)
class EveryBeatIsItsOwn(MemoryReplicaDirectory):
    """A beat of another name keeps the replica alive that makes it."""

    @override
    async def beat(self, ttl_seconds: float, *, of: ReplicaId | None = None) -> None:
        await super().beat(ttl_seconds)


@must_fail(ReplicaDirectorySuite)
class RetiringDoesNothing(MemoryReplicaDirectory):
    """Who ends is missed only later."""

    @override
    async def retire(self) -> None:
        return


@must_fail(ReplicaDirectorySuite)
class RetiringTakesAll(MemoryReplicaDirectory):
    """Who ends takes the others along."""

    @override
    async def retire(self) -> None:
        self._data.replicas.clear()
