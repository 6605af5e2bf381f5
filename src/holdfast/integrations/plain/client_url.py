"""The settings of a redis-py or valkey-py client as a URL."""

from typing import Any, Final
from urllib.parse import quote, urlencode

from holdfast.errors import ConfigurationError

__all__ = ["url_of_client"]

_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")


def url_of_client(client: Any) -> str:
    """A URL for the server that `client` is connected to. It contains the password: do not log it.

    Raises:
        ConfigurationError: it is no client of redis-py or valkey-py for one server.
    """
    pool = getattr(client, "connection_pool", None)
    settings: Any = getattr(pool, "connection_kwargs", None)
    if not isinstance(settings, dict) or hasattr(pool, "service_name"):
        raise ConfigurationError(
            f"RedisSessionManager: got {type(client).__name__}, expected a URL, or a client of redis-py or "
            "valkey-py for one server (for Sentinel and Cluster give the URL)"
        )
    given: dict[str, Any] = settings  # pyright: ignore[reportUnknownVariableType]
    user, password = given.get("username") or "", given.get("password") or ""
    login = f"{quote(str(user), safe='')}:{quote(str(password), safe='')}@" if user or password else ""
    db = given.get("db") or 0
    if path := given.get("path"):
        return f"unix://{login}{quote(str(path))}?db={db}"
    tls = "ssl" in getattr(pool, "connection_class", object).__name__.lower()
    host = str(given.get("host") or "localhost")
    place = f"[{host}]" if ":" in host else host
    options = {name: str(given[name]) for name in _TLS_OPTIONS if tls and given.get(name) is not None}
    query = f"?{urlencode(options)}" if options else ""
    return f"{'rediss' if tls else 'redis'}://{login}{place}:{given.get('port') or 6379}/{db}{query}"
