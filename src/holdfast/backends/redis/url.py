"""URLs of Redis and Valkey: text in, a checked `Location` out. Passwords stay out of messages."""

import re
import ssl
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote

from holdfast.backends.redis.location import DEFAULT_PORTS, Endpoint, Location, Mode
from holdfast.backends.redis.tls import TLS_OPTIONS, make_context
from holdfast.errors import ConfigurationError

__all__ = ["parse_url"]

_SCHEME: Final = re.compile(r"(redis|valkey)(s?)(?:[-+](sentinel|cluster|unix))?|(unix)")
_SCHEMES: Final = (
    "redis://, valkey://, with TLS rediss://, valkeys://, each also with -sentinel or -cluster, unix://"
)
_HOST: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^][:@/\s]*))(?::(\d{1,5}))?")
_SERVICE: Final = re.compile(r"[\w.-]+", re.ASCII)
_WORD: Final = re.compile(r"[!-~]+")  # what CLIENT SETNAME takes
_LAST_PORT: Final = 65535
_OF_ALL: Final = ("connect_timeout", "timeout", "client_name", "prefix")
_OF_SENTINEL: Final = ("sentinel_username", "sentinel_password", "sentinel_tls")


def parse_url(url: str) -> Location:
    """The store that `url` names.

    * `redis://[user:password@]host[:port][/db]`, with TLS `rediss://`
    * `redis-sentinel://[user:password@]host[:port],host[:port],../service[/db]`: the hosts are sentinels,
      user and password those of the servers; the sentinels' are the options `sentinel_username` and
      `sentinel_password`
    * `redis-cluster://[user:password@]host[:port],host[:port],..`: some nodes of the cluster
    * `unix://[user:password@]/path/of/socket[?db=..]`

    `valkey` may stand for `redis`, and `+` for `-`. Options: `connect_timeout`, `timeout` (seconds),
    `client_name`, `prefix`; with TLS `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_keyfile_password`,
    `ssl_check_hostname`; with Sentinel also `sentinel_tls=false` for sentinels without TLS.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    mode, secure, unix = _scheme(url)
    rest, _, query_text = url.partition("://")[2].partition("?")
    if "#" in url:
        _wrong("a fragment", "#..", "none; # in a password is written %23")
    userinfo, has_user, place = rest.rpartition("@")
    if "@" in query_text or "/" in userinfo or ("@" in userinfo and mode != "standalone"):
        _wrong(
            "user or password",
            "(not repeated)",
            "@, / and ? in them as %40, %2F and %3F, and all before the host",
        )
    authority, slash, path = place.partition("/")
    username, _, password = userinfo.partition(":") if has_user else ("", "", "")
    query = _query(query_text, mode, secure=secure, unix=unix)
    tls = make_context(query) if secure else None
    service, db = _path(path, mode, unix=unix)
    server = Endpoint(
        path=f"/{unquote(path)}" if unix else None,
        mode="cluster" if mode == "cluster" else "standalone",
        db=_db(query.get("db", "")) if unix else db,
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=tls,
    )
    if unix and (authority or not slash or not path):
        _wrong("the path of the socket", "(not absolute)", "unix:///path/of/socket")
    seeds = (server,) if unix else tuple(_hosts(authority, mode, _seed(server, mode, query)))
    return Location(
        seeds=seeds,
        server=server if mode == "sentinel" else seeds[0],
        service=service,
        prefix=query.get("prefix"),
        client_name=_client_name(query.get("client_name")),
        connect_timeout=_seconds("connect_timeout", query),
        timeout=_seconds("timeout", query),
    )


def _wrong(what: str, given: object, allowed: str) -> NoReturn:
    raise ConfigurationError(f"store URL: {what} is {given!r}; allowed: {allowed}")


def _scheme(url: str) -> tuple[Mode, bool, bool]:
    """What it leads to, whether with TLS, whether to a Unix socket."""
    scheme, separator, _ = url.partition("://")
    match = _SCHEME.fullmatch(scheme.lower())
    if not separator or match is None:
        # Without a scheme the text may begin with a password: it is not repeated.
        _wrong("the scheme", scheme[:20] if separator and "@" not in scheme else "(missing)", _SCHEMES)
    _, secure, topology, unix = match.groups()
    if secure and topology == "unix":
        _wrong("the scheme", scheme, "unix:// (there is no TLS on a Unix socket)")
    mode: Mode = "standalone"
    if topology in {"sentinel", "cluster"}:
        mode = "sentinel" if topology == "sentinel" else "cluster"
    return mode, bool(secure), bool(unix) or topology == "unix"


def _query(text: str, mode: Mode, *, secure: bool, unix: bool) -> dict[str, str]:
    allowed = (
        *_OF_ALL,
        *(TLS_OPTIONS if secure else ()),
        *(_OF_SENTINEL if mode == "sentinel" else ()),
        *(("db",) if unix else ()),
    )
    query: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name.startswith("ssl") and not secure:
            _wrong("a TLS option of a scheme without TLS", name, "it with rediss:// or valkeys://")
        if name == "ssl_cert_reqs" and value != "required":
            _wrong(name, value, "required (whom to trust is said with ssl_ca_certs)")
        if name in query:
            _wrong("an option", name, "each once")
        if name != "ssl_cert_reqs":
            if name not in allowed:
                _wrong("an option", name, ", ".join(allowed))
            query[name] = value
    return query


def _path(path: str, mode: Mode, *, unix: bool) -> tuple[str | None, int]:
    """Service and database."""
    if unix:
        return None, 0
    if mode == "sentinel":
        service, _, number = path.partition("/")
        if not _SERVICE.fullmatch(service):
            _wrong(
                "the service",
                service,
                "/service[/db] after the sentinels, with letters, digits, '.', '_', '-'",
            )
        return service, _db(number)
    db = _db(path)
    if mode == "cluster" and db:
        _wrong("the database", path, "0: a cluster has no other")
    return None, db


def _db(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004 - fits any server
        _wrong("the database", text, "a number such as /0")
    return int(text or 0)


def _seed(server: Endpoint, mode: Mode, query: dict[str, str]) -> Endpoint:
    """What all hosts in the URL have in common."""
    if mode != "sentinel":
        return server
    with_tls = query.get("sentinel_tls", "true" if server.tls else "false").lower()
    if with_tls not in {"true", "false"} or (with_tls == "true" and server.tls is None):
        _wrong("sentinel_tls", with_tls, "false, and only with rediss-sentinel:// or valkeys-sentinel://")
    tls: ssl.SSLContext | None = server.tls if with_tls == "true" else None
    return Endpoint(
        mode="sentinel",
        username=query.get("sentinel_username") or None,
        password=query.get("sentinel_password") or None,
        tls=tls,
    )


def _hosts(authority: str, mode: Mode, seed: Endpoint) -> list[Endpoint]:
    texts = authority.split(",")
    if mode == "standalone" and len(texts) > 1:
        _wrong("the host", "a list", "one host, or redis-sentinel://.. or redis-cluster://..")
    found: list[Endpoint] = []
    for text in texts:
        match = _HOST.fullmatch(text)
        port = int(match[3]) if match and match[3] else DEFAULT_PORTS[mode]
        if match is None or port > _LAST_PORT or not (text or len(texts) == 1):
            _wrong("the host or port", "(not valid)", "host, host:port, [IPv6]:port, with a port up to 65535")
        found.append(seed.at(unquote(match[1] or match[2] or "").lower() or "localhost", port))
    return found


def _client_name(text: str | None) -> str | None:
    if text is not None and not _WORD.fullmatch(text):
        _wrong("client_name", text, "visible ASCII without spaces")
    return text


def _seconds(name: str, query: dict[str, str]) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        _wrong(name, text, "seconds above 0")
    return seconds
