"""Which store the command uses, and how it is shown."""

from __future__ import annotations

import pytest

from holdfast.ops.cli.errors import CliError
from holdfast.ops.cli.store import StoreChoice, choose_store

BOTH = {"HOLDFAST_STORE": "redis://ours", "REDIS_URL": "redis://theirs"}


def test_the_option_goes_before_the_environment_and_that_before_memory() -> None:
    assert choose_store("memory://x", BOTH) == StoreChoice("memory://x", "--store")
    assert choose_store(None, BOTH) == StoreChoice("redis://ours", "HOLDFAST_STORE")
    assert choose_store(None, {**BOTH, "HOLDFAST_STORE": ""}) == StoreChoice("redis://theirs", "REDIS_URL")
    assert choose_store(None, {}) == StoreChoice("memory://", None)


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
