"""The settings of a redis-py or valkey-py client as a URL."""

import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from holdfast.errors import ConfigurationError

__all__ = ["url_of_client"]

_TLS_OPTIONS: Final = {
    "ssl_ca_certs": "ssl_ca_certs",
    "ssl_certfile": "ssl_certfile",
    "ssl_keyfile": "ssl_keyfile",
    "ssl_password": "ssl_keyfile_password",
    "ssl_check_hostname": "ssl_check_hostname",
}
# What decides whom we trust or who we are, and cannot be said in a URL.
_TLS_REFUSED: Final = (
    "ssl_ca_path",
    "ssl_ca_data",
    "ssl_min_version",
    "ssl_ciphers",
    "ssl_include_verify_flags",
    "ssl_exclude_verify_flags",
    "ssl_validate_ocsp",
    "ssl_validate_ocsp_stapled",
    "ssl_ocsp_context",
    "ssl_ocsp_expected_cert",
)


def url_of_client(client: Any) -> str:
    """A URL for the server that `client` is connected to. It contains the password: do not log it.

    Raises:
        ConfigurationError: it is no client of redis-py or valkey-py for one server, or one of its settings
            decides whom it trusts or who it is, and cannot be taken over.
    """
    pool = getattr(client, "connection_pool", None)
    settings: Any = getattr(pool, "connection_kwargs", None)
    if not isinstance(settings, dict) or hasattr(pool, "service_name"):
        raise ConfigurationError(
            f"RedisSessionManager: got {type(client).__name__}, expected a URL, or a client of redis-py or "
            "valkey-py for one server (for Sentinel and Cluster give the URL)"
        )
    given: dict[str, Any] = settings  # pyright: ignore[reportUnknownVariableType]
    tls = "ssl" in getattr(pool, "connection_class", object).__name__.lower()
    _refuse_what_a_url_cannot_say(given, tls=tls)
    user, password = given.get("username") or "", given.get("password") or ""
    login = f"{quote(str(user), safe='')}:{quote(str(password), safe='')}@" if user or password else ""
    options = {"client_name": str(given["client_name"])} if given.get("client_name") else {}
    db = given.get("db") or 0
    if path := given.get("path"):
        return f"unix://{login}{quote(str(path))}?{urlencode({'db': db, **options})}"
    host = str(given.get("host") or "localhost")
    place = f"[{host}]" if ":" in host else host
    if tls:
        options |= {
            ours: str(given[name]) for name, ours in _TLS_OPTIONS.items() if given.get(name) is not None
        }
    query = f"?{urlencode(options)}" if options else ""
    return f"{'rediss' if tls else 'redis'}://{login}{place}:{given.get('port') or 6379}/{db}{query}"


def _refuse_what_a_url_cannot_say(given: Mapping[str, Any], *, tls: bool) -> None:
    if given.get("credential_provider") is not None:
        raise _refused("credential_provider", "given", "username and password, or a URL")
    if not tls:
        return
    if given.get("ssl_cert_reqs", "required") not in {"required", ssl.CERT_REQUIRED}:
        raise _refused(
            "ssl_cert_reqs", repr(given["ssl_cert_reqs"]), "required (say whom to trust with ssl_ca_certs)"
        )
    for name in _TLS_REFUSED:
        if given.get(name):
            raise _refused(name, "given", f"{', '.join(_TLS_OPTIONS)}; or a URL")


def _refused(name: str, what: str, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"RedisSessionManager: {name} of the client is {what}, expected {allowed}")
