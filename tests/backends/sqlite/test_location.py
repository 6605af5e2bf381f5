"""From a URL to a file and options."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.backends.sqlite.location import locate
from holdfast.errors import ConfigurationError
from holdfast.sessions.types import ReplicaId


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///srv/app/sessions.db", "/srv/app/sessions.db"),
        ("sqlite:////srv/app/sessions.db", "/srv/app/sessions.db"),
        ("sqlite:///srv/a%20b.db", "/srv/a b.db"),
        ("sqlite://sessions.db", "CWD/sessions.db"),
        ("sqlite://data/Sessions.db", "CWD/data/Sessions.db"),
        ("sqlite://~/sessions.db", "HOME/sessions.db"),
        ("sessions.db", "CWD/sessions.db"),
        ("/srv/sessions.db", "/srv/sessions.db"),
    ],
)
def test_a_url_names_a_file(url: str, expected: str) -> None:
    path, _ = locate(url, "holdfast", None)
    expected = expected.replace("CWD", str(Path.cwd())).replace("HOME", str(Path.home()))
    assert Path(str(path).replace("//", "/")) == Path(expected)


async def test_without_a_path_it_is_in_the_folder_for_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    async with SqliteBackend("sqlite://", name="My server/../x") as backend:
        assert backend.path == tmp_path / "state" / "holdfast" / "My-server-..-x.db"
        assert backend.path.parent.stat().st_mode & 0o077 == 0


def test_without_xdg_it_is_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert locate("sqlite://", "", None)[0] == tmp_path / ".local/state/holdfast/holdfast.db"
    monkeypatch.setattr("sys.platform", "darwin")
    assert locate("sqlite://", "a", None)[0] == tmp_path / "Library/Application Support/holdfast/a.db"


def test_options_are_in_the_query() -> None:
    _, options = locate("sqlite://a.db?synchronous=full&busy_seconds=1.5&max_events=7", "", None)
    assert options == SqliteOptions(synchronous="full", busy_seconds=1.5, max_events=7)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://:memory:",
        "sqlite:///",
        "sqlite:///srv/",
        "sqlite://a.db?mode=ro",
        "sqlite://a.db?max_events=many",
        "sqlite://a.db?max_events=0",
        "sqlite://a.db?synchronous=off",
        "redis://a",
        "a\0b",
        "",
    ],
)
def test_what_is_wrong_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SqliteBackend(url)


@pytest.mark.parametrize("replica", ["a.b", "a/b", "a|b", "{a}", "a b"])
def test_a_replica_id_is_checked(replica: str) -> None:
    with pytest.raises(ConfigurationError):
        SqliteBackend("a.db", replica=ReplicaId(replica))
