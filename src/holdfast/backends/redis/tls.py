"""TLS as the options of a URL ask for it. It can be told whom to trust, never to trust everybody."""

import ssl
from collections.abc import Mapping
from typing import Final

from holdfast.errors import ConfigurationError

__all__ = ["TLS_OPTIONS", "make_context"]

_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS_OPTIONS: Final = (*_FILES, "ssl_keyfile_password", "ssl_check_hostname")
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def make_context(query: Mapping[str, str]) -> ssl.SSLContext:
    """The context for the TLS options among `query`.

    Raises:
        ConfigurationError: one is wrong, or a file cannot be used.
    """
    check = query.get("ssl_check_hostname", "true").lower()
    if check not in _BOOLEANS:
        raise ConfigurationError(f"store URL: ssl_check_hostname is {check!r}; allowed: true, false")
    for needy, needed in (("ssl_keyfile", "ssl_certfile"), ("ssl_keyfile_password", "ssl_certfile")):
        if needy in query and needed not in query:
            raise ConfigurationError(f"store URL: {needy} is given; allowed: it together with {needed}")
    try:
        context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
        if "ssl_certfile" in query:
            # An empty password: else OpenSSL would ask for it on the terminal.
            password = query.get("ssl_keyfile_password", "")
            context.load_cert_chain(query["ssl_certfile"], query.get("ssl_keyfile"), password)
    except OSError as exc:  # ssl.SSLError is one
        given = {name: query[name] for name in _FILES if name in query}
        raise ConfigurationError(f"store URL: cannot load the TLS files {given!r}: {exc}") from exc
    context.check_hostname = _BOOLEANS[check]
    return context
