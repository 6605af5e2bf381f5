"""What is shipped: the wheel as built, not the folder that it is built from."""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built without the network."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (file,) = target.glob("holdfast-*.whl")
    return zipfile.ZipFile(file)


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (file,) = [file for file in wheel.namelist() if file.endswith(f".dist-info/{name}")]
    return wheel.read(file).decode()


def shipped(pattern: str) -> set[str]:
    """The files of src/ that should be in the wheel."""
    return {file.relative_to(SOURCE).as_posix() for file in (SOURCE / "holdfast").rglob(pattern)}


@pytest.mark.parametrize("pattern", ["*.py", "*.lua", "*.sql", "py.typed"])
def test_every_source_file_is_in_the_wheel(wheel: zipfile.ZipFile, pattern: str) -> None:
    expected = shipped(pattern)
    assert expected, f"no {pattern} in src/holdfast"
    assert expected <= set(wheel.namelist())


def test_nothing_else_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    top = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert len(top) == 2
    assert "holdfast" in top
    suffixes = {PurePosixPath(name).suffix for name in wheel.namelist() if name.startswith("holdfast/")}
    assert suffixes <= {".py", ".lua", ".sql", ".typed"}


def test_the_licence_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert "Holdfast contributors" in metadata(wheel, "licenses/LICENSE")


def test_the_core_depends_on_three_packages_only(wheel: zipfile.ZipFile) -> None:
    requirements = email.message_from_string(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    core = {line.split(">=")[0] for line in requirements if "extra ==" not in line}
    assert core == {"anyio", "typing-extensions", "zstandard"}


def test_the_extras_are_those_of_the_readme(wheel: zipfile.ZipFile) -> None:
    extras = email.message_from_string(metadata(wheel, "METADATA")).get_all("Provides-Extra", [])
    assert set(extras) == {"all", "cli", "encryption", "fastmcp", "mcp", "redis", "testing"}


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    assert "holdfast = holdfast.ops.cli.__main__:main" in metadata(wheel, "entry_points.txt")
