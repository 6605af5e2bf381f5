"""What a replica thinks of the others after an outage, and what it still owes the indexes."""

# pyright: reportPrivateUsage=false

from types import SimpleNamespace
from typing import cast

import pytest
from typing_extensions import override

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import StoreUnavailable
from holdfast.sessions import pulse as pulse_module
from holdfast.sessions.protocols import Backend, Kernel
from holdfast.sessions.registry import Registry
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import ReplicaId
from holdfast.testing.conformance.harness import new_facts
from holdfast.testing.faults import FaultyBackend


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class SlowToBeat(FaultyBackend):
    """A store that takes its time with a heartbeat."""

    def __init__(self, inner: Backend, clock: Clock) -> None:
        super().__init__(inner)
        self.seconds = 0.0
        self._clock = clock

    @override
    def check(self, name: str, *, done: bool = False) -> None:
        if name == "replicas.beat" and not done:
            self._clock.now += self.seconds
        super().check(name, done=done)


@pytest.mark.parametrize("outage", ["refused", "slept through"])
async def test_nobody_is_declared_dead_by_a_replica_that_has_just_been_through_an_outage(
    monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    clock, grace = Clock(), pulse_module.SEEN_AGAIN_SECONDS
    monkeypatch.setattr(pulse_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    store = SlowToBeat(MemoryBackend(), clock)
    replica, nobody = Replica(store, cast("Kernel", None)), ReplicaId("nobody")

    await replica.pulse.beat()
    assert await replica.pulse.is_alive(nobody), "it has just started, and cannot know of an outage before"
    clock.now += grace
    assert not await replica.pulse.is_alive(nobody), "this process has seen no outage"

    if outage == "refused":
        store.fail("replicas.beat")
        with pytest.raises(StoreUnavailable):
            await replica.pulse.beat()
        assert await replica.pulse.is_alive(nobody), "nobody is judged during an outage"
        store.heal()
    else:
        store.seconds = 60.0
    await replica.pulse.beat()
    assert await replica.pulse.is_alive(nobody)
    clock.now += grace - 0.1
    assert await replica.pulse.is_alive(nobody)
    clock.now += 0.2
    assert not await replica.pulse.is_alive(nobody)


@pytest.mark.parametrize("outage_seconds", [0.0, 60.0])
async def test_a_replica_that_starts_judges_at_once_unless_the_store_was_away(
    monkeypatch: pytest.MonkeyPatch, outage_seconds: float
) -> None:
    clock, nobody = Clock(), ReplicaId("nobody")
    monkeypatch.setattr(pulse_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    data = MemoryData(clock=clock.monotonic)
    settled, new = (Replica(MemoryBackend(data), cast("Kernel", None)) for _ in range(2))
    for _ in range(4):
        await settled.pulse.beat()
        clock.now += pulse_module.HEARTBEAT_SECONDS
    clock.now += outage_seconds  # in which nobody's beat arrives
    await new.pulse.beat()
    assert await new.pulse.is_alive(nobody) == (outage_seconds > 0)
    assert await new.pulse.is_alive(settled.id), "nothing is taken from the living"


async def test_what_could_not_be_written_to_the_index_is_written_the_next_time() -> None:
    store = FaultyBackend(MemoryBackend())
    registry = Registry(store)
    before, meanwhile = new_facts(), new_facts()
    await registry.open(before)
    store.fail("sessions.refresh")
    with pytest.raises(StoreUnavailable):
        await registry.refresh_index()
    store.heal()
    await registry.open(meanwhile)
    assert {facts.id for facts in await registry.refresh_index()} == {before.id, meanwhile.id}
    assert list(await registry.refresh_index()) == []
    assert store.calls.count("sessions.refresh") == 2
