"""Which web pages may use the server.

A browser lets any page open a websocket to any server and tells the server where the page is
from; turning strangers away is the server's part (RFC 6455, section 10.2). Programs send no
``Origin`` and pass. So do pages of the server's own host, whatever the port: a proxy or an old
library may leave it out.

A page can also have its own host name lead to 127.0.0.1 and so become one of the server's own host
(DNS rebinding). A server on the loopback interface that asks for no keys therefore answers to names
of the loopback alone, and to those it was told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from streaming.errors import Forbidden

ANY = "*"
# Origins that a browser sends for pages without a host: of files and of sandboxed frames.
WITHOUT_HOST = ("null", "file://")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]+)?")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginPolicy:
    """Which pages may use the server.

    Attributes:
        origins: pages that may, such as ``https://meet.example.org``; ``*`` is all. Pages of the
            server's own host always may.
        hosts: names by which the server may be addressed; None is any.
    """

    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] | None = None

    def check(self, origin: str | None, host: str | None) -> None:
        """Check a request by its headers ``Origin`` and ``Host``.

        Raises:
            Forbidden: it comes from a page that may not use the server.
        """
        name = host_name(f"//{host}") if host else None
        if name is not None and self.hosts is not None and name not in self.hosts:
            raise Forbidden(
                f"this server is not called {name!r}; names it may have stand in allowed_hosts"
            )
        if origin is None or ANY in self.origins or origin.lower() in self.origins:
            return
        if name is None or host_name(origin) != name:
            raise Forbidden(
                f"pages of {origin!r} may not use this server, which is addressed as {host!r}; "
                "add the origin to allowed_origins"
            )


def host_name(url: str) -> str | None:
    """The host of a URL in lower case, without port and brackets; None without one."""
    try:
        return urlsplit(url).hostname or None
    except ValueError:
        return None


def check_origins(origins: Iterable[str]) -> None:
    """Check a setting.

    Raises:
        ValueError: one is not an origin.
    """
    for origin in origins:
        if origin not in (ANY, *WITHOUT_HOST) and not ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is not an origin; accepted: scheme://host or scheme://host:port in "
                f"lower case and without a path, {', '.join(WITHOUT_HOST)}, {ANY}"
            )
