"""`resources/subscribe` is remembered for all replicas."""

from holdfast.sessions.protocols import Backend
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import SessionId
from tests.flows.conftest import Wired
from tests.flows.wire import Wire, until

UPDATED = b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"res://a"}}'
CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'


def replica_of(wire: Wire, number: int) -> Replica:
    replica = wire.fleet.replicas[number].attached.replica
    assert replica is not None
    return replica


async def subscribers(backend: Backend, uri: str) -> set[SessionId]:
    return {session async for page in backend.subscriptions.sessions(uri) for session in page}


async def test_an_update_published_anywhere_reaches_the_subscribers_stream(wired: Wired) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        assert "result" in await wire.request("resources/subscribe", {"uri": "res://a"}, on=0)
        for n in (0, 1, 2):
            assert await replica_of(wire, n).relay.send_to_subscribers("res://a", UPDATED) == 1
            message = await standalone.method("notifications/resources/updated")
            assert message["params"]["uri"] == "res://a"


async def test_only_subscribers_are_told(wired: Wired) -> None:
    async with wired() as wire:
        other = Wire(wire.fleet, wire.client)
        await other.initialize(on=1)
        await wire.request("resources/subscribe", {"uri": "res://a"}, on=0)
        await other.request("resources/subscribe", {"uri": "res://ab"}, on=0)
        async with wire.open(on=1) as mine, other.open(on=1) as theirs:
            assert await replica_of(wire, 2).relay.send_to_subscribers("res://a", UPDATED) == 1
            await mine.method("notifications/resources/updated")
            assert other.session is not None
            await replica_of(wire, 2).relay.send_standalone(SessionId(other.session), CHANGED)
            await theirs.method("notifications/tools/list_changed")  # and nothing before it


async def test_unsubscribing_on_another_replica_ends_it(wired: Wired) -> None:
    async with wired() as wire:
        for uri in ("res://a", "res://b"):
            await wire.request("resources/subscribe", {"uri": uri}, on=0)
        assert "result" in await wire.request("resources/unsubscribe", {"uri": "res://a"}, on=1)
        assert await replica_of(wire, 2).relay.send_to_subscribers("res://a", UPDATED) == 0
        assert await replica_of(wire, 2).relay.send_to_subscribers("res://b", UPDATED) == 1


async def test_subscribing_twice_is_subscribing_once(wired: Wired) -> None:
    async with wired() as wire:
        for n in (0, 1, 2):
            await wire.request("resources/subscribe", {"uri": "res://a"}, on=n)
        assert await replica_of(wire, 0).relay.send_to_subscribers("res://a", UPDATED) == 1


async def test_a_subscription_that_the_server_refused_is_not_remembered(wired: Wired) -> None:
    async with wired() as wire:
        assert "error" in await wire.request("resources/subscribe", {"uri": "refused://a"}, on=0)
        assert await subscribers(replica_of(wire, 1).backend, "refused://a") == set()


async def test_deleting_the_session_ends_its_subscriptions(wired: Wired) -> None:
    async with wired() as wire:
        other = Wire(wire.fleet, wire.client)
        await other.initialize(on=1)
        for each in (wire, other):
            await each.request("resources/subscribe", {"uri": "res://a"})
        await wire.delete(on=1)
        assert other.session is not None
        assert await subscribers(replica_of(wire, 2).backend, "res://a") == {other.session}


async def test_subscriptions_expire_with_their_session(wired: Wired) -> None:
    async with wired(ttl_seconds=1.5) as wire:
        await wire.request("resources/subscribe", {"uri": "res://a"}, on=0)
        backend = replica_of(wire, 1).backend

        async def expired() -> bool:
            return not await subscribers(backend, "res://a")

        await until(expired)


async def test_a_subscriber_that_is_gone_is_forgotten_in_passing(wired: Wired) -> None:
    async with wired() as wire:
        gone = SessionId("s-that-never-was")
        backend = replica_of(wire, 0).backend
        await backend.subscriptions.add(gone, "res://a", ttl_seconds=60)
        assert await replica_of(wire, 1).relay.send_to_subscribers("res://a", UPDATED) == 0
        assert await subscribers(backend, "res://a") == set()
