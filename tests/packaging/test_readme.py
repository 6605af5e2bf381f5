"""Everything shown in the README is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(ROOT.glob("*.md"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_python_shown_runs_as_it_stands() -> None:
    code = "\n".join([*blocks("python"), "assert callable(app)"])
    command = [sys.executable, "-I", "-W", "error", "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert answer.returncode == 0, answer.stderr


def test_every_option_shown_exists() -> None:
    (command,) = re.findall(r"^holdfast serve .*$", README, re.MULTILINE)
    help_command = [sys.executable, "-m", "holdfast.ops.cli", "serve", "--help"]
    answer = subprocess.run(help_command, capture_output=True, text=True, timeout=50, check=True)
    for option in re.findall(r"--\w[\w-]*", command):
        assert option in answer.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_named_in_the_documents_exists(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z]+)", document.read_text(encoding="utf-8")))
    if document.name == "README.md":
        named |= set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
        assert {"demo", "test"} <= named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) <= 75
