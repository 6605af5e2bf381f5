"""Importing Holdfast costs little, and a missing extra is said in one helpful line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "fastmcp",
    "hiredis",
    "httptools",
    "mcp",
    "mcp_types",
    "pydantic",
    "pydantic_core",
    "redis",
    "sqlite3",
    "starlette",
    "uvicorn",
    "uvloop",
}
# Only the core is installed: an import of anything else fails as it would then.
WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({sorted(HEAVY)!r})); "


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that warns of nothing and inherits nothing."""
    command = [sys.executable, "-I", "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    "module", ["holdfast", "holdfast.errors", "holdfast.sessions.protocols", "holdfast.backends"]
)
def test_importing_pulls_in_nothing_heavy(module: str) -> None:
    answer = run(f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert answer.returncode == 0, answer.stderr
    loaded = {name.partition(".")[0] for name in json.loads(answer.stdout)}
    assert loaded & HEAVY == set()


def test_the_public_names_are_sorted_and_exist() -> None:
    answer = run(
        "import holdfast; names = list(holdfast.__all__); assert names == sorted(names), names;"
        "[getattr(holdfast, name) for name in names]; print(*names)"
    )
    assert answer.returncode == 0, answer.stderr
    assert {"attach", "open_store", "streamable_http_app"} <= set(answer.stdout.split())


def test_the_memory_store_needs_no_extra() -> None:
    answer = run(f"{WITHOUT_EXTRAS} import holdfast; holdfast.open_store('memory://')")
    assert answer.returncode == 0, answer.stderr


def test_a_redis_url_without_the_extra_says_what_to_install() -> None:
    answer = run(
        f"{WITHOUT_EXTRAS} import holdfast\n"
        "try: holdfast.open_store('redis://localhost')\n"
        "except Exception as error: print(error)"
    )
    assert answer.returncode == 0, answer.stderr
    assert "holdfast[redis]" in answer.stdout
    assert len(answer.stdout.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_help_needs_no_extra(arguments: list[str]) -> None:
    answer = run(
        f"{WITHOUT_EXTRAS} from holdfast.ops.cli.__main__ import main; "
        f"sys.argv = ['holdfast', *{arguments!r}]; raise SystemExit(main())"
    )
    assert answer.returncode == 0, answer.stderr
    assert "serve" in answer.stdout


def test_serving_without_the_extras_says_what_to_install() -> None:
    answer = run(
        f"{WITHOUT_EXTRAS} from holdfast.ops.cli.__main__ import main; "
        "sys.argv = ['holdfast', 'serve', 'json:loads']; raise SystemExit(main())"
    )
    assert answer.returncode != 0
    assert "holdfast[" in answer.stderr
    assert "Traceback" not in answer.stderr
