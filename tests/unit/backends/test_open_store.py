"""What the environment says about a store reaches it."""

from pathlib import Path

import pytest

from holdfast import open_store
from holdfast.backends.envelope import EnvelopeBackend
from holdfast.errors import ConfigurationError, PositionLost
from holdfast.sessions.types import STANDALONE
from holdfast.settings import StoreSettings
from holdfast.testing.conformance.harness import new_session, start_of


@pytest.mark.parametrize("compression", ["true", "false"])
async def test_compression_is_on_unless_it_is_switched_off(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_COMPRESSION", compression)
    async with open_store(f"sqlite://{tmp_path}/a.db") as store:
        assert isinstance(store, EnvelopeBackend)
        session = await new_session(store)
        start = await start_of(store, session)
        await store.log.append(session, STANDALONE, b"x" * 5000)
        page = await store.inner.log.read(session, STANDALONE, after=start, limit=1)
    assert (len(page.events[0].payload) < 100) is (compression == "true")


async def test_the_number_of_kept_events_is_the_one_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_EVENTS_PER_SESSION", "16")
    for url in (f"sqlite://{tmp_path}/a.db", "memory://"):
        async with open_store(url) as store:
            session = await new_session(store)
            start = await start_of(store, session)
            for _ in range(40):
                await store.log.append(session, STANDALONE, b"x")
            with pytest.raises(PositionLost) as lost:
                await store.log.read(session, STANDALONE, after=start, limit=99)
            assert lost.value.resume_offset == 40 - 16


def test_wrong_keys_are_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_ENCRYPTION_KEYS", "short:aaaa")
    with pytest.raises(ConfigurationError, match="encryption keys: got a key 'short' of 3 bytes"):
        open_store(f"sqlite://{tmp_path}/a.db")


def test_settings_may_be_handed_over_instead() -> None:
    with pytest.raises(ConfigurationError, match="encryption keys"):
        open_store("redis://localhost", settings=StoreSettings(encryption_keys="nonsense"))
