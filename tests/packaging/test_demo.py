"""`make demo` says what is true: it checks itself, and ends with 0 only if all of it happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)  # six processes start in it, one after the other, on whatever the machine has left
def test_the_demo_shows_what_it_promises() -> None:
    # Whoever runs it may have a store of his own configured: it is neither used nor touched.
    environment = {**os.environ, "HOLDFAST_STORE": "redis://nowhere.invalid:1"}
    command = [sys.executable, "-m", "examples.demo"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    said = done.stdout
    assert "store      sqlite://" in said
    assert "it heard 1, 2, 3, 4, 5, 6, 7, 8: nothing missing, nothing twice" in said
    assert "calls of the other clients, 0 failed" in said
    assert "FAILED" not in said
    assert "Traceback" not in done.stderr


def test_the_demo_leaves_nothing_running_when_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "examples.demo"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as demo:
        assert demo.stdout is not None
        said = ""
        while "balancer   http" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        processes = [
            int(line.split("(process ")[1].split(")")[0]) for line in said.splitlines() if "(process" in line
        ]
        assert len(processes) == 3
        demo.terminate()
        rest = demo.stdout.read()
        assert demo.wait(30) == 130
    assert "nothing is left running" in rest
    for process in processes:
        assert not Path("/proc", str(process)).exists()
