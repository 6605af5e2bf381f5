"""deploy/ does what it says: by the schemas of what reads it, and with real servers. There is no Docker."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import hiredis
import pytest
import yaml

from tests.certificates import make_certificates
from tests.flows.command import serving
from tests.resp import exchange
from tests.servers import FLAVOURS, Flavour, RunningServer, free_port, program

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
BIN: Final = Path(sys.executable).parent
PASSWORD: Final = "p@ss/word#%"


def _check(tool: str, *arguments: str | Path) -> None:
    done = subprocess.run([BIN / tool, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    return loaded


def _dockerfile(instruction: str) -> list[str]:
    """The list that an instruction is given."""
    match = re.search(rf"^{instruction} (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert match is not None
    given: list[str] = yaml.safe_load(match[1])
    return given


def test_the_compose_file_is_one() -> None:
    _check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "docker-compose.yml")


def test_the_dockerfile_has_nothing_that_hadolint_minds() -> None:
    _check("hadolint", "--failure-threshold", "info", DEPLOY / "Dockerfile")


@pytest.mark.parametrize("version", ["1.30.0", "1.37.0"])
def test_the_manifests_are_those_of_kubernetes(version: str) -> None:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    assert files
    _check("kubernetes-validate", "--strict", "--kubernetes-version", version, *files)


def test_a_manifest_with_a_misspelt_field_is_found(tmp_path: Path) -> None:
    """So the test above can fail."""
    text = (DEPLOY / "kubernetes" / "mcp-server.yaml").read_text()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("readinessProbe:", "readynessProbe:"))
    with pytest.raises(AssertionError, match="readynessProbe"):
        _check("kubernetes-validate", "--strict", wrong)


def test_a_replica_has_time_to_leave() -> None:
    """Its pause, its drain and ten seconds, before it is killed."""
    (deployment,) = [
        each
        for each in yaml.safe_load_all((DEPLOY / "kubernetes" / "mcp-server.yaml").read_text())
        if each["kind"] == "Deployment"
    ]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = container["args"]
    pause, drain = (int(arguments[arguments.index(f"--drain-{what}") + 1]) for what in ("pause", "seconds"))
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + 10
    compose = _compose()["services"]["mcp_server"]
    assert int(compose["stop_grace_period"].removesuffix("s")) >= 5 + 10 + 10


def test_redis_is_not_published_and_nothing_is_open_to_the_world() -> None:
    services = _compose()["services"]
    assert "ports" not in services["redis"]
    assert _compose()["networks"]["store"]["internal"] is True
    assert services["mcp_server"]["ports"] == ["127.0.0.1:8000:8000"]


@contextmanager
def _redis(directory: Path, flavour: Flavour = "redis") -> Generator[RunningServer]:
    """A real server with our redis.conf, started as the Compose file does, on a free port."""
    command: list[str] = _compose()["services"]["redis"]["command"]
    assert command[:2] == ["sh", "-c"]
    server = RunningServer(flavour, directory, PASSWORD, port=free_port())
    script = (
        command[2]
        .replace("$$", "$")
        .replace("redis-server", str(program(flavour)))
        .replace("/etc/redis/redis.conf", str(DEPLOY / "redis.conf"))
    )
    script += f" --dir {directory} --port {server.port} --bind 127.0.0.1 --logfile {directory}/server.log"
    with (directory / "output.log").open("ab") as output:
        server._process = subprocess.Popen(  # pyright: ignore[reportPrivateUsage] - started by the script
            ["/bin/sh", "-c", script],
            env={**os.environ, "REDIS_PASSWORD": PASSWORD},
            stdout=output,
            stderr=output,
        )
    try:
        server._wait_until_it_answers()  # pyright: ignore[reportPrivateUsage]
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_redis_starts_with_the_file_and_is_as_its_comments_say(tmp_path: Path, flavour: Flavour) -> None:
    with _redis(tmp_path, flavour) as server:
        for setting, value in (
            (b"appendonly", b"yes"),
            (b"appendfsync", b"everysec"),
            (b"maxmemory-policy", b"noeviction"),
            (b"maxmemory", b"268435456"),
            (b"save", b"900 1 300 10 60 10000"),
        ):
            assert server.cli("CONFIG", "GET", setting) == [setting, value]
        assert server.cli("SET", "kept", "1", "EX", "60") == b"OK"
        with pytest.raises(hiredis.ReplyError, match="unknown command"):
            server.cli("FLUSHALL")
        server.kill()
    with _redis(tmp_path, flavour) as server:
        assert server.cli("GET", "kept") == b"1"


def test_what_is_commented_out_in_the_file_works_when_it_is_not(tmp_path: Path) -> None:
    """TLS, and a user that may do what is documented and nothing else."""
    certificates = make_certificates(tmp_path)
    lines = (DEPLOY / "redis.conf").read_text().splitlines()
    switched_on = [line[2:] for line in lines if re.match("# (user|tls-|port 0)", line)]
    port = free_port()
    text = "\n".join([line for line in lines if not line.startswith(("bind", "port"))] + switched_on)
    for name, there in (
        ("6380", str(port)),
        ("/etc/redis/tls/redis.crt", str(certificates.certificate)),
        ("/etc/redis/tls/redis.key", str(certificates.key)),
        ("/etc/redis/tls/ca.crt", str(certificates.ca)),
    ):
        text = text.replace(name, there)
    (tmp_path / "all.conf").write_text(text)
    process = subprocess.Popen(
        [program("redis"), tmp_path / "all.conf", "--dir", tmp_path], stdout=subprocess.DEVNULL
    )
    try:
        commands = [
            ("AUTH", "holdfast", "password"),
            ("PING",),
            ("SET", "mcp:x", "1", "EX", "9"),
            ("KEYS", "*"),
        ]
        replies: list[Any] = []
        deadline = time.monotonic() + 10
        while not replies:
            assert process.poll() is None
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError):  # it does not listen yet
                replies += exchange(port, commands, tls=certificates)
        assert replies[:3] == [b"OK", b"PONG", b"OK"]
        assert "NOPERM" in str(replies[3])
        (refused,) = exchange(port, [("PING",)], tls=certificates)
        assert "NOAUTH" in str(refused)
    finally:
        process.kill()
        process.wait(5)


def test_the_user_in_the_file_is_the_documented_one() -> None:
    (user,) = re.findall(
        r"^# user holdfast on >password (.*)$", (DEPLOY / "redis.conf").read_text(), re.MULTILINE
    )
    redis = (DEPLOY.parent / "docs" / "backends" / "redis.md").read_text()
    documented = redis.split("ACL SETUSER holdfast on >password")[1].split("```")[0]
    assert user.split() == documented.split()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # processes are the same on any loop
async def test_the_image_would_serve_what_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry point with the Compose file's command and environment, on the Redis of that file."""
    service = _compose()["services"]["mcp_server"]
    program_name, command, target, *fixed = _dockerfile("ENTRYPOINT")
    assert (program_name, command) == ("holdfast", "serve")
    folder, data = tmp_path / "srv", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    for name in ("server.py", "requirements.txt"):
        (folder / name).write_text((DEPLOY / name).read_text())
    with _redis(data) as server:
        here = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port), "REDIS_PASSWORD": PASSWORD}
        for name, value in (service["environment"] | here).items():
            monkeypatch.setenv(name, value)
        async with serving(folder, target, *fixed, *service["command"]) as running:
            assert f"store     redis://127.0.0.1:{server.port}/0" in running.said
            port = running.url.rpartition(":")[2].partition("/")[0]
            _run_health_check(service["healthcheck"]["test"][1:], port)
            _run_health_check(_dockerfile(r"HEALTHCHECK .*\\\n  CMD"), port)
        assert PASSWORD not in running.output


def _run_health_check(command: list[str], port: str) -> None:
    python, option, code = command
    assert python == "python"
    done = subprocess.run(
        [sys.executable, option, code.replace(":8000", f":{port}")],
        timeout=20,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_probes_ask_for_what_is_served() -> None:
    from holdfast.ops.health.routes import LIVE_PATH, READY_PATH  # noqa: PLC0415 - only here

    text = (DEPLOY / "kubernetes" / "mcp-server.yaml").read_text()
    assert set(re.findall(r"path: (\S+)", text)) == {LIVE_PATH, READY_PATH}


def test_the_requirements_name_extras_that_exist() -> None:
    (line,) = (DEPLOY / "requirements.txt").read_text().split()
    extras = set(line.removeprefix("holdfast[").removesuffix("]").split(","))
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in project for extra in extras)
