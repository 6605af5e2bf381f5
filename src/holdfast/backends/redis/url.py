"""URLs of Redis and Valkey servers: text in, a checked `Endpoint` out. Passwords stay out of messages."""

import ssl
from dataclasses import dataclass, field
from typing import Final, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from typing_extensions import override

from holdfast.errors import ConfigurationError

__all__ = ["Endpoint", "parse_url"]

SCHEMES: Final = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}
_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS: Final = (*_TLS_FILES, "ssl_check_hostname", "connect_timeout")
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_DEFAULT_PORT: Final = 6379


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one server is, and who we are to it.

    Attributes:
        host: name or address.
        port: TCP port.
        db: number of the database.
        username: ACL user; None for the default one.
        password: None without authentication.
        tls: what TLS needs, None for plain TCP.
        connect_timeout: seconds for connection and handshake, None for the option's.
    """

    host: str
    port: int = _DEFAULT_PORT
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    connect_timeout: float | None = None

    @override
    def __str__(self) -> str:
        """For messages: no user, no password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


def _wrong(what: str, given: object, allowed: str) -> NoReturn:
    raise ConfigurationError(f"store URL: {what} is {given!r}; allowed: {allowed}")


def parse_url(url: str) -> Endpoint:
    """The endpoint that `url` names.

    `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://` (TLS), then
    `[user:password@]host[:port][/db][?ssl_ca_certs=..&ssl_certfile=..&ssl_keyfile=..&ssl_check_hostname=..`
    `&connect_timeout=..]`.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        # Without a scheme the text may begin with a password: it is not repeated.
        _wrong("the scheme", scheme if separator else "(missing)", ", ".join(f"{s}://" for s in SCHEMES))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _wrong("the host or port", "(not valid)", "host, host:port, [IPv6]:port, with a port up to 65535")
    query = _query(parts)
    tls = SCHEMES[scheme.lower()]
    if not tls and (given := [name for name in query if name.startswith("ssl_")]):
        _wrong("a TLS option of a scheme without TLS", given[0], "it with rediss:// or valkeys://")
    return Endpoint(
        host=_host(parts),
        port=_DEFAULT_PORT if port is None else port,
        db=_db(parts.path),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=_tls(query) if tls else None,
        connect_timeout=_seconds(query["connect_timeout"]) if "connect_timeout" in query else None,
    )


def _host(parts: SplitResult) -> str:
    host = parts.hostname or "localhost"
    if "," in host:
        _wrong("the host", host, "one host (Sentinel and Cluster are not supported yet)")
    return unquote(host)


def _db(path: str) -> int:
    text = path.removeprefix("/")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004 - fits any server
        _wrong("the database", text, "a number such as /0")
    return int(text or 0)


def _query(parts: SplitResult) -> dict[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in query:
        if name not in _OPTIONS:
            _wrong("an option", name, ", ".join(_OPTIONS))
    return query


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        _wrong("connect_timeout", text, "seconds above 0")
    return seconds


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    check = query.get("ssl_check_hostname", "true").lower()
    if check not in _BOOLEANS:
        _wrong("ssl_check_hostname", check, "true, false")
    if "ssl_keyfile" in query and "ssl_certfile" not in query:
        _wrong("ssl_keyfile", query["ssl_keyfile"], "it together with ssl_certfile")
    try:
        context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
        if "ssl_certfile" in query:
            context.load_cert_chain(query["ssl_certfile"], query.get("ssl_keyfile"))
    except OSError as exc:  # ssl.SSLError is one
        given = {name: query[name] for name in _TLS_FILES if name in query}
        raise ConfigurationError(f"store URL: cannot load the TLS files {given!r}: {exc}") from exc
    context.check_hostname = _BOOLEANS[check]
    return context
