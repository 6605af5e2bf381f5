"""Which store the command uses, and how it is shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from holdfast.ops.cli.errors import CliError
from holdfast.ops.cli.store import StoreChoice, choose_store, file_name_of

BOTH = {"HOLDFAST_STORE": "redis://ours", "REDIS_URL": "redis://theirs"}


def test_the_option_goes_before_the_environment_and_that_before_the_file() -> None:
    assert choose_store("memory://x", BOTH) == StoreChoice("memory://x", "--store")
    assert choose_store(None, BOTH) == StoreChoice("redis://ours", "HOLDFAST_STORE")
    assert choose_store(None, {**BOTH, "HOLDFAST_STORE": ""}) == StoreChoice("redis://theirs", "REDIS_URL")
    assert choose_store(None, {}, name="mine") == StoreChoice("sqlite://", None, "mine")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("memory://name", "memory://name"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("rediss://user:secret@host:1/2?ssl_ca_certs=secret", "rediss://host:1/2"),
        ("redis://:sec@ret@[::1]:1", "redis://[::1]:1"),
    ],
)
def test_it_is_shown_without_its_password(url: str, shown: str) -> None:
    assert choose_store(url).shown == shown


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://user:secret@host", "redis://:secret@host:port"])
def test_a_wrong_url_is_named_by_where_it_stands(url: str) -> None:
    with pytest.raises(CliError, match=r"^HOLDFAST_STORE: ") as refused:
        StoreChoice(url, "HOLDFAST_STORE").open()
    assert refused.value.status == 2
    assert "secret" not in str(refused.value)


def test_the_file_is_shown_as_a_url_that_means_the_same_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    shown = choose_store(None, {}, name="mine").shown
    assert shown == f"sqlite://{tmp_path}/holdfast/mine.db"
    assert choose_store(shown).shown == shown


def test_the_default_is_not_named_as_if_it_had_been_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = choose_store(None, {}).refused(OSError("store: no room"), status=1)
    assert str(refused).startswith("the default store: no room. Choose another place with --store")


def test_a_server_has_one_file_however_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    name = file_name_of("server:mcp")
    assert re.fullmatch(r"server-mcp-[0-9a-f]{6}", name)
    assert file_name_of("server.py:mcp") == file_name_of(f"{tmp_path}/server.py:mcp") == name


def test_servers_of_the_same_name_in_different_folders_do_not_share_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    here = file_name_of("server:mcp")
    assert file_name_of("other/server.py:mcp") != here
    assert file_name_of("server:app") != here
    monkeypatch.chdir("other")
    assert file_name_of("server:mcp") != here
    assert file_name_of(os.fspath(tmp_path / "server.py") + ":mcp") == here


@pytest.mark.parametrize("path", ["mine.db", "/home/me/mine.db", "localhost:6379", "sqlite:/x"])
def test_what_is_no_url_is_answered_with_one(path: str) -> None:
    with pytest.raises(CliError, match="--store: expected a URL, such as sqlite:///srv/sessions") as refused:
        StoreChoice(path, "--store").open()
    assert path not in str(refused.value)  # it may be a password
