"""Listening on an address, or saying in one line why not."""

from __future__ import annotations

import socket

from streaming.errors import SettingsError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        SettingsError: the address is not this machine's, is in use or is not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"cannot listen on {host}, port {port}: {reason}") from error
