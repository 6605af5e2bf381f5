"""The command line: what it understands, and what it says about what it does not."""

from __future__ import annotations

import argparse
from typing import get_args

import pytest

from holdfast.asgi.options import EdgeOptions
from holdfast.ops.cli.__main__ import main
from holdfast.ops.cli.options import ServeOptions, add_serve_arguments, serve_options
from holdfast.sessions.relay import Resumable


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_serve_arguments(made)
    return made


def parse(*arguments: str) -> ServeOptions:
    return serve_options(parser().parse_args(["module:mcp", *arguments]))


def test_the_defaults_are_local_and_leave_sessions_as_the_server_sets_them() -> None:
    assert parse() == ServeOptions(target="module:mcp")
    assert parse().edge == {}
    assert parse().is_local


def test_options_of_the_edge_are_passed_on_by_its_own_names() -> None:
    given = parse(
        *("--session-ttl", "60", "--max-sessions", "5", "--resumable", "always", "--keepalive", "2.5")
    )
    options = EdgeOptions(**given.edge)
    assert (options.ttl_seconds, options.max_sessions) == (60.0, 5)
    assert (options.resumable, options.keepalive_seconds) == ("always", 2.5)


def test_sessions_may_be_unlimited() -> None:
    assert parse("--max-sessions", "none").edge == {"max_sessions": None}


def test_every_way_to_be_resumable_can_be_chosen() -> None:
    assert [parse("--resumable", choice).edge["resumable"] for choice in get_args(Resumable)] == [
        *get_args(Resumable)
    ]


def test_hosts_and_origins_may_be_repeated() -> None:
    options = parse("--allowed-host", "a", "--allowed-host", "b:1", "--allowed-origin", "https://a")
    assert options.allowed_hosts == ("a", "b:1")
    assert options.allowed_origins == ("https://a",)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--port", ["65536", "-1", "x", "", "\N{FULLWIDTH DIGIT ONE}", "9" * 5000]),
        ("--path", ["mcp", "", "/a b", "/a?b", "/{x}"]),
        ("--workers", ["0", "-1", "1.5", "x", "1025", "9" * 5000]),
        ("--session-ttl", ["0", "-1", "nan", "inf", "x"]),
        ("--keepalive", ["0", "x"]),
        ("--max-sessions", ["0", "-5", "x", "9" * 5000]),
        ("--drain-seconds", ["-1", "1.5", "x"]),
        ("--log-level", ["loud"]),
        ("--resumable", ["sometimes"]),
    ],
)
def test_a_wrong_value_is_named_with_its_option(
    option: str, values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        with pytest.raises(SystemExit) as ended:
            parse(f"{option}={value}")
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert f"argument {option}" in said
        assert len(said) < 8000


def test_the_help_names_every_option_and_says_something_of_each() -> None:
    actions = [
        action
        for action in parser()._actions
        if not isinstance(action, argparse._HelpAction)  # pyright: ignore[reportPrivateUsage]
    ]
    assert len(actions) > 10
    assert all(action.help for action in actions)


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("holdfast ")
