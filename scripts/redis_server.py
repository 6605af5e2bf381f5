"""Make Debian's `redis-server` available without starting a service, and print its path.

One that the machine has is used. Otherwise the package comes from Debian's archive: installed when we are
root (`redis-tools`: it holds the program but no service that would take port 6379), unpacked into
`.tools/redis` when not. If neither works this fails and says why: tests on Redis are never left out silently.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / ".tools" / "redis"
PROGRAM = TOOLS / "redis-server"
# The server and those of its libraries that a small Debian does not have.
PACKAGES = ("redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
TIMEOUT_SECONDS = 300
ATTEMPTS = 5
PAUSE_SECONDS = 3.0  # apt has one lock for the whole machine, and its mirrors have bad moments
# dpkg wants ldconfig and start-stop-daemon, which are no user's business otherwise.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
ENVIRONMENT = {**os.environ, "PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def works(program: Path) -> bool:
    """Tell whether `program` starts: libraries may be missing."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def find() -> Path | None:
    """Return a `redis-server` that starts, or None."""
    on_path = shutil.which("redis-server", path=PATH)
    candidates = [PROGRAM, *([Path(on_path)] if on_path else [])]
    return next((program for program in candidates if works(program)), None)


def run(*command: str) -> None:
    """Run a command of apt or dpkg; its output is shown if it fails."""
    attempt = 0
    while True:
        attempt += 1
        print("redis_server: " + " ".join(command), file=sys.stderr)
        answer = subprocess.run(
            command,
            cwd=TOOLS,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if answer.returncode == 0:
            return
        if attempt == ATTEMPTS:
            raise SystemExit(
                f"redis_server: `{' '.join(command)}` failed ({answer.returncode}): no redis-server.\n"
                f"{answer.stdout[-1000:]}{answer.stderr[-2000:]}\n"
                "Install Redis >= 6.2 (Debian: apt-get install redis-server) and run this again."
            )
        time.sleep(PAUSE_SECONDS * attempt)


def install() -> None:
    """As root: let apt install the program with what it needs."""
    found = shutil.which("redis-check-rdb", path=PATH)
    if found is None:
        run("apt-get", "update", "-q")
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", "redis-tools")
        found = shutil.which("redis-check-rdb", path=PATH)
    if found is None:
        raise SystemExit("redis_server: Debian's redis-tools was installed, but has no redis-check-rdb")
    PROGRAM.unlink(missing_ok=True)
    PROGRAM.symlink_to(found)  # one program that looks at the name it is called by; so does Debian


def unpack() -> None:
    """As anyone else: download the packages with private lists, and unpack them here."""
    (TOOLS / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (TOOLS / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    private = ("-o", f"Dir::State::lists={TOOLS / 'lists'}", "-o", f"Dir::Cache={TOOLS / 'cache'}")
    run("apt-get", *private, "update", "-q")
    run("apt-get", *private, "download", "-q", *PACKAGES)
    root = TOOLS / "root"
    for package in TOOLS.glob("*.deb"):
        run("dpkg", "-x", str(package), str(root))
    server = root / "usr" / "bin" / "redis-server"
    if not server.is_symlink():
        server.symlink_to("redis-check-rdb")
    libraries = ":".join(sorted({str(library.parent) for library in root.rglob("*.so.*")}))
    for program, real in ((PROGRAM, server), (TOOLS / "redis-cli", root / "usr" / "bin" / "redis-cli")):
        program.unlink(missing_ok=True)
        program.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{real}" "$@"\n', encoding="utf-8")
        program.chmod(0o755)


def redis_server() -> Path:
    """Return the path of a `redis-server` that starts, fetching one if the machine has none."""
    found = find()
    if found is not None:
        return found
    if shutil.which("apt-get", path=PATH) is None:
        raise SystemExit("redis_server: neither redis-server nor apt-get is here; install Redis >= 6.2")
    TOOLS.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        install()
    else:
        unpack()
    found = find()
    if found is None:
        raise SystemExit(f"redis_server: {PROGRAM} was made, but does not start")
    return found


if __name__ == "__main__":
    print(redis_server())
