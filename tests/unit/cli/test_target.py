"""From `MODULE:ATTRIBUTE` to the object of that name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.ops.cli.errors import CliError
from holdfast.ops.cli.target import load_target


def is_server(candidate: object) -> bool:
    """For these tests, servers are lists."""
    return isinstance(candidate, list)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the command is run in; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def load(target: str) -> object:
    return load_target(target, is_server)


def why_not(target: str) -> str:
    with pytest.raises(CliError) as refused:
        load(target)
    assert refused.value.status == 2
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_module_in_this_folder_is_found(folder: Path) -> None:
    write(folder / "hf_here.py", "mcp = ['it']")
    assert load("hf_here:mcp") == ["it"]


def test_a_module_in_a_package_is_found(folder: Path) -> None:
    write(folder / "hf_package" / "inner.py", "class holder:\n    mcp = ['deep']")
    assert load("hf_package.inner:holder.mcp") == ["deep"]


def test_a_file_is_run_with_its_neighbours_in_reach(folder: Path) -> None:
    write(folder / "sub" / "hf_neighbour.py", "value = ['next door']")
    write(folder / "sub" / "hf_file.py", "from hf_neighbour import value as mcp")
    assert load("sub/hf_file.py:mcp") == ["next door"]


def test_a_file_may_be_named_like_a_module_of_the_standard_library(folder: Path) -> None:
    write(folder / "json.py", "mcp = ['mine']")
    assert load("json.py") == ["mine"]
    assert "dumps" in dir(sys.modules["json"])


def test_without_an_attribute_the_first_server_of_the_usual_names_is_taken(folder: Path) -> None:
    write(folder / "hf_usual.py", "mcp = 5\nserver = ['second']\napp = ['third']")
    assert load("hf_usual") == ["second"]


def test_a_function_of_a_usual_name_will_do(folder: Path) -> None:
    write(folder / "hf_function.py", "def server(): return ['made']")
    assert callable(load("hf_function"))


@pytest.mark.parametrize("target", ["", ":", ":mcp", "module:"])
def test_what_is_no_target_is_answered_with_an_example(target: str) -> None:
    assert "expected MODULE:ATTRIBUTE, such as" in why_not(target)


@pytest.mark.parametrize("target", ["a b", "a-b:mcp", "../x:mcp", "a..b"])
def test_what_is_no_name_of_a_module_is_said(target: str) -> None:
    assert "is neither a module nor a .py file" in why_not(target)


def test_a_module_that_does_not_exist_is_said(folder: Path) -> None:
    assert f"there is no module 'hf_nowhere' (looked in {folder}" in why_not("hf_nowhere.deep:mcp")


def test_a_file_that_does_not_exist_is_said(folder: Path) -> None:
    assert "there is no file 'nowhere.py'" in why_not("nowhere.py")


def test_an_attribute_that_does_not_exist_is_said(folder: Path) -> None:
    write(folder / "hf_empty.py", "from mcp.server import MCPServer\nbakery = MCPServer('bakery')")
    assert why_not("hf_empty:mpc") == "'hf_empty' has no attribute 'mpc' (in it: bakery)"
    assert "hf_empty:ATTRIBUTE (in it: bakery)" in why_not("hf_empty")


def test_an_error_in_the_module_is_said_with_its_place(folder: Path) -> None:
    write(folder / "hf_broken.py", "\nraise LookupError('nothing\\nfound')")
    said = why_not("hf_broken:mcp")
    assert "LookupError: nothing found" in said
    assert "hf_broken.py:2" in said


def test_a_module_that_needs_another_one_is_told_apart_from_one_that_is_missing(folder: Path) -> None:
    write(folder / "hf_needy.py", "import hf_not_installed")
    assert "'hf_needy' cannot be imported: ModuleNotFoundError" in why_not("hf_needy:mcp")


def test_a_module_that_ends_the_process_is_said(folder: Path) -> None:
    write(folder / "hf_exits.py", "raise SystemExit(3)")
    assert "ended itself while it was imported (exit status 3)" in why_not("hf_exits:mcp")


def test_a_server_of_sdk_1_is_told_what_is_served(folder: Path) -> None:
    write(folder / "hf_old.py", "from mcp.server.fastmcp import FastMCP")
    said = why_not("hf_old:mcp")
    assert "No module named 'mcp.server.fastmcp'" in said
    assert "Holdfast serves what runs on mcp>=2.3,<3" in said


def test_a_server_of_another_fastmcp_is_told_what_is_served(folder: Path) -> None:
    write(folder / "hf_older.py", "from fastmcp.server import not_in_version_4")
    assert "Holdfast serves what runs on fastmcp>=4.1.2,<5" in why_not("hf_older:mcp")
