"""What ``a2p serve --check`` prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streaming.cli import common

if TYPE_CHECKING:
    from streaming.settings import ServerSettings

WOULD_NOT_START = 2


def check(load: Callable[[], ServerSettings]) -> int:
    """Print what is in force and what was found; returns the exit code, 0 or 2."""
    from a2p_engine.errors import A2PError
    from streaming.operations.check import findings, in_force

    try:
        settings = load()
    except A2PError as error:
        common.note(f"failed  settings: {error}")
        return WOULD_NOT_START
    common.show_table(("setting", "value", "from"), list(in_force(settings)))
    found = list(findings(settings))
    common.show_table(
        ("", "checked", "result"),
        [("ok" if item.ok else "failed", item.what, item.said) for item in found],
    )
    failed = [item.what for item in found if not item.ok]
    if failed:
        common.note(f"the server would not start: {', '.join(failed)}")
    return WOULD_NOT_START if failed else 0
