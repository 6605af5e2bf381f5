"""The registry: what never changes is cached, whether a session lives is always asked."""

import pytest

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import SessionGone, TooManySessions
from holdfast.sessions.registry import Registry, mint_session_id
from holdfast.sessions.types import SessionId
from holdfast.testing.conformance.harness import HOSTILE_IDS, new_facts
from holdfast.testing.faults import FaultyBackend


class Clock:
    """The registry's clock, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1_000.0
        monkeypatch.setattr("holdfast.sessions.registry.time", self)

    def monotonic(self) -> float:
        return self.seconds


def cached(registry: Registry) -> int:
    """Of how many sessions something is kept."""
    young, old = registry._young, registry._old  # pyright: ignore[reportPrivateUsage]
    return len(young | old)


def make_store() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


async def test_a_session_is_found_where_it_was_not_opened() -> None:
    data = MemoryData()
    here, there = (Registry(MemoryBackend(data)) for _ in "ab")
    facts = new_facts(owner="alice")
    await here.open(facts)
    for _ in range(2):  # from the store, then from the cache
        assert (await there.find(facts.id, "alice")).facts == facts


async def test_a_cached_session_that_was_deleted_elsewhere_is_gone() -> None:
    data = MemoryData()
    here, there = (Registry(MemoryBackend(data)) for _ in "ab")
    facts = new_facts()
    await here.open(facts)
    await there.find(facts.id, None)
    assert await here.close(facts.id)
    with pytest.raises(SessionGone):
        await there.find(facts.id, None)


async def test_the_owner_is_checked_for_cached_sessions_too() -> None:
    registry = Registry(make_store())
    facts = new_facts(owner="alice")
    await registry.open(facts)
    for owner in ("bob", None, ""):
        with pytest.raises(SessionGone):
            await registry.find(facts.id, owner)
    assert (await registry.find(facts.id, "alice")).facts == facts


async def test_a_stranger_does_not_make_a_living_session_forgotten() -> None:
    registry = Registry(make_store())
    facts = new_facts(owner="alice")
    await registry.open(facts)
    await registry.refresh_index()
    with pytest.raises(SessionGone):
        await registry.find(facts.id, "bob")
    registry.mark_used([facts.id])
    assert list(await registry.refresh_index()) == [facts]


@pytest.mark.parametrize("session", [*HOSTILE_IDS, "é" * 10, "a" * 129, "a\x7f"], ids=ascii)
async def test_what_cannot_be_an_id_never_reaches_the_store(session: str) -> None:
    store = make_store()
    registry = Registry(store)
    with pytest.raises(SessionGone) as gone:
        await registry.find(session, None)
    assert not session or session not in str(gone.value) or len(session) == 1
    allowed = session.isascii() and session.isprintable() and " " not in session and 0 < len(session) <= 128
    if not allowed or {"{", "}"} & set(session):
        assert store.calls == []


async def test_finding_is_one_call_to_the_store() -> None:
    store = make_store()
    registry = Registry(store)
    facts = new_facts()
    await registry.open(facts)
    store.calls.clear()
    await registry.find(facts.id, None)
    assert store.calls == ["sessions.find"]


async def test_the_limit_is_over_all_replicas() -> None:
    data = MemoryData()
    here, there = (Registry(MemoryBackend(data), max_sessions=1) for _ in "ab")
    facts = new_facts()
    await here.open(facts)
    with pytest.raises(TooManySessions):
        await there.open(new_facts())
    await there.close(facts.id)
    await there.open(new_facts())


async def test_what_was_used_is_refreshed_once() -> None:
    store = make_store()
    registry = Registry(store)
    facts = new_facts()
    await registry.open(facts)
    assert list(await registry.refresh_index()) == [facts]
    store.calls.clear()
    assert list(await registry.refresh_index()) == []
    assert store.calls == []
    registry.mark_used([facts.id, SessionId("unknown")])
    assert list(await registry.refresh_index()) == [facts]


async def test_a_session_that_ended_is_not_refreshed() -> None:
    registry = Registry(make_store())
    facts = new_facts()
    await registry.open(facts)
    registry.forget(facts.id)
    registry.mark_used([facts.id])
    assert list(await registry.refresh_index()) == []


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sessions.registry._GENERATION_SESSIONS", 2)
    registry = Registry(make_store())
    all_facts = [new_facts() for _ in range(9)]
    for facts in all_facts:
        await registry.open(facts)
        assert cached(registry) <= 4
    for facts in all_facts:
        assert (await registry.find(facts.id, None)).facts == facts
        assert cached(registry) <= 4


async def test_nothing_of_an_idle_session_stays_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN 9: an idle session without a stream costs nothing in any process."""
    now = Clock(monkeypatch)
    registry = Registry(make_store())
    idle, used, open_here = (new_facts() for _ in range(3))
    for facts in (idle, used, open_here):
        await registry.open(facts)
    await registry.refresh_index()
    for _ in range(20):  # ten minutes, as the upkeep goes
        now.seconds += 30
        await registry.find(used.id, None)
        registry.mark_used([open_here.id])
        registry.forget_idle()
        await registry.refresh_index()
    assert cached(registry) == 2
    registry.mark_used([used.id, open_here.id])
    assert {facts.id for facts in await registry.refresh_index()} == {used.id, open_here.id}
    assert (await registry.find(idle.id, None)).facts == idle


async def test_all_that_is_marked_is_kept_in_the_index_even_if_it_is_too_much_for_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.sessions.registry._GENERATION_SESSIONS", 3)
    registry = Registry(make_store())
    all_facts = [new_facts() for _ in range(5)]
    for facts in all_facts:
        await registry.open(facts)
    await registry.refresh_index()
    registry.mark_used([facts.id for facts in all_facts])
    assert len(await registry.refresh_index()) == 5


async def test_a_session_that_is_used_is_not_forgotten_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    now = Clock(monkeypatch)
    store = make_store()
    registry = Registry(store)
    facts = new_facts()
    await registry.open(facts)
    now.seconds += 149
    registry.forget_idle()
    now.seconds += 1
    registry.forget_idle()  # old now, and still there
    now.seconds += 149
    registry.forget_idle()
    assert cached(registry) == 1


async def test_a_session_that_ends_while_it_is_idle_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = Clock(monkeypatch)
    registry = Registry(make_store())
    facts = new_facts()
    await registry.open(facts)
    now.seconds += 200
    registry.forget_idle()
    await registry.close(facts.id)
    assert cached(registry) == 0


def test_minted_ids_are_long_unguessable_and_fit_for_keys() -> None:
    ids = {mint_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) >= 32 and each.isalnum() and each.isascii() for each in ids)
