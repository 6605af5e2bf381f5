"""Put a pinned `uv` into the repository and print its path. Needs Python >= 3.11 and nothing else.

Debian's python3 has neither pip nor venv nor ensurepip. A wheel is a zip file, and uv's holds one program:
download it from the package index, compare its SHA-256 with the one below, unpack it.

The index is the one that pip or uv would use: UV_DEFAULT_INDEX, UV_INDEX_URL, PIP_INDEX_URL, or PyPI. Proxies
and SSL_CERT_FILE work as everywhere in Python.
"""

from __future__ import annotations

import hashlib
import html.parser
import io
import os
import platform
import re
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import NoReturn

UV_VERSION = "0.13.8"
# To renew: take the four values from the index page of `uv`, then run `make clean check`.
WHEELS = {
    "x86_64": (
        f"uv-{UV_VERSION}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984",
    ),
    "aarch64": (
        f"uv-{UV_VERSION}-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        "0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d",
    ),
}
TIMEOUT_SECONDS = 60
ATTEMPTS = 3
TARGET = Path(__file__).resolve().parent.parent / ".tools" / f"uv-{UV_VERSION}" / "uv"


class Links(html.parser.HTMLParser):
    """Collects the links of an index page: file name -> address."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: dict[str, str] = {}

    def handle_starttag(  # type: ignore[explicit-override] # Python 3.11 has no `override`
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            address = urllib.parse.urldefrag(href).url
            self.by_name[urllib.parse.unquote(address.rsplit("/", 1)[-1])] = address


def stop(message: str) -> NoReturn:
    print(f"bootstrap: {message}", file=sys.stderr)
    raise SystemExit(1)


def fetch(url: str, accept: str = "*/*") -> bytes:
    """Return what is at `url`, trying a few times: networks hiccup."""
    request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "holdfast-bootstrap"})  # noqa: S310 - index addresses come from the developer's own settings
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
                return bytes(answer.read())
        except OSError as error:
            print(f"bootstrap: attempt {attempt} of {ATTEMPTS}: {url}: {error}", file=sys.stderr)
    stop(f"could not download {url}. Is there a network, or an index in UV_DEFAULT_INDEX / PIP_INDEX_URL?")


def index_url() -> str:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        value = os.environ.get(name, "").strip()
        if value:
            return re.sub(r"^[\w.-]+=(?=https?:)", "", value)  # uv allows `name=address`
    return "https://pypi.org/simple"


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what says so to those who have an older one
        stop(f"Holdfast needs Python 3.11 or newer, {sys.executable} is {platform.python_version()}")
    if TARGET.exists():
        print(TARGET)
        return
    if sys.platform != "linux" or platform.machine() not in WHEELS:
        stop(
            f"no pinned uv for {sys.platform}/{platform.machine()} (have: Linux {', '.join(WHEELS)}). "
            f"Install uv {UV_VERSION} yourself and run: make UV=$(command -v uv) ..."
        )
    name, expected = WHEELS[platform.machine()]
    page = index_url().rstrip("/") + "/uv/"
    links = Links()
    links.feed(fetch(page, "application/vnd.pypi.simple.v1+html, text/html;q=0.5").decode())
    if name not in links.by_name:
        stop(f"{page} does not offer {name}")
    wheel = fetch(urllib.parse.urljoin(page, links.by_name[name]))
    actual = hashlib.sha256(wheel).hexdigest()
    if actual != expected:
        stop(f"{name} has SHA-256 {actual}, expected {expected}: not used")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    partial = TARGET.with_name(f"uv.{os.getpid()}")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        partial.write_bytes(archive.read(f"uv-{UV_VERSION}.data/scripts/uv"))
    partial.chmod(0o755)
    partial.rename(TARGET)  # in one step: two of these may run at once
    print(TARGET)


if __name__ == "__main__":
    main()
