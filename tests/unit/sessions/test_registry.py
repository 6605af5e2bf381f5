"""The registry: what never changes is cached, whether a session lives is always asked."""

import pytest

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import SessionGone, TooManySessions
from holdfast.sessions.registry import Registry, mint_session_id
from holdfast.sessions.types import SessionId
from holdfast.testing.conformance.harness import HOSTILE_IDS, new_facts
from holdfast.testing.faults import FaultyBackend


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
    monkeypatch.setattr("holdfast.sessions.registry._CACHED_SESSIONS", 3)
    registry = Registry(make_store())
    all_facts = [new_facts() for _ in range(5)]
    for facts in all_facts:
        await registry.open(facts)
    assert len(registry._facts) == 3  # pyright: ignore[reportPrivateUsage]
    for facts in all_facts:
        assert (await registry.find(facts.id, None)).facts == facts


def test_minted_ids_are_long_unguessable_and_fit_for_keys() -> None:
    ids = {mint_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) >= 32 and each.isalnum() and each.isascii() for each in ids)
