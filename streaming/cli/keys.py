"""``a2p keys``: who may use a server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming.cli.common import note, show_table

if TYPE_CHECKING:
    from streaming.security.keys import KeyLimits, KeyRecord

keys_app = typer.Typer(no_args_is_help=True, help="Make, list and withdraw API keys of a server.")

KEYS_VARIABLE = "A2P_KEYS_FILE"
FileOption = Annotated[
    Path,
    typer.Option(
        "--file",
        "-f",
        envvar=KEYS_VARIABLE,
        help="Key file of the server, its setting keys_file; made if there is none.",
        show_default=False,
    ),
]
WhichArgument = Annotated[
    str, typer.Argument(metavar="NAME|ID", help="See `a2p keys list`.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(keys_app, name="keys")


@keys_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whom it is for, such as a room or a program.")],
    file: FileOption,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="captions, glossary:read, glossary:write, metrics or admin (everything). "
            "Repeatable.",
            show_default="captions, glossary:read",
        ),
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day (UTC) on which it is refused."),
    ] = None,
    max_sessions: Annotated[int | None, typer.Option(help="Sessions at the same time.")] = None,
    sessions_per_minute: Annotated[float | None, typer.Option(help="Sessions opened.")] = None,
    audio_minutes_per_hour: Annotated[float | None, typer.Option(help="Audio sent.")] = None,
    max_session_minutes: Annotated[float | None, typer.Option(help="Longest session.")] = None,
    another: Annotated[
        bool,
        typer.Option("--another", help="A further key of a client that has one, to replace it."),
    ] = False,
) -> None:
    """Make a key and print it, this once: the file holds only a hash of it."""
    from streaming.errors import SettingsError
    from streaming.security import keys

    records = keys.read_keys(file) if file.exists() else ()
    if not another and any(record.name == name for record in records):
        raise SettingsError(f"{name} has a key; --another makes a further one")
    made = keys.new_key(
        name,
        _scopes(scope) or keys.DEFAULT_SCOPES,
        _limits(max_sessions, sessions_per_minute, audio_minutes_per_hour, max_session_minutes),
        expires.date() if expires else None,
        taken=[record.id for record in records],
    )
    keys.write_keys(file, [*records, made.record])
    note(f"{name} has the key below, id {made.record.id}; it is not shown again")
    print(made.secret)


@keys_app.command("list")
def list_keys(file: FileOption) -> None:
    """List keys and what they open, without the keys themselves."""
    from streaming.security import keys

    rows = [
        (
            record.id,
            record.name,
            " ".join(record.scopes),
            _shown_limits(record.limits),
            record.created,
            record.expires or "never",
            _state(record),
        )
        for record in keys.read_keys(file)
    ]
    show_table(("id", "name", "scopes", "limits", "made", "expires", "state"), rows)


@keys_app.command()
def disable(which: WhichArgument, file: FileOption) -> None:
    """Refuse a key until further notice; sessions that run with it end within seconds."""
    _change(file, which, lambda record: record.model_copy(update={"disabled": True}))


@keys_app.command()
def enable(which: WhichArgument, file: FileOption) -> None:
    """Accept a disabled key again."""
    _change(file, which, lambda record: record.model_copy(update={"disabled": False}))


@keys_app.command()
def remove(which: WhichArgument, file: FileOption) -> None:
    """Forget a key."""
    _change(file, which, lambda record: None)


def _scopes(given: list[str] | None) -> list[Any]:
    from streaming.security.keys import SCOPES

    for scope in given or []:
        if scope not in SCOPES:
            raise typer.BadParameter(f"{scope!r} is not a scope; accepted: {', '.join(SCOPES)}")
    return list(given or [])


def _limits(
    max_sessions: int | None,
    sessions_per_minute: float | None,
    audio_minutes_per_hour: float | None,
    max_session_minutes: float | None,
) -> KeyLimits:
    from pydantic import ValidationError

    from streaming.security.keys import KeyLimits

    try:
        return KeyLimits(
            max_sessions=max_sessions,
            sessions_per_minute=sessions_per_minute,
            audio_s_per_hour=_seconds(audio_minutes_per_hour),
            max_session_s=_seconds(max_session_minutes),
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise typer.BadParameter(f"{problem['loc'][0]}: {problem['msg']}") from None


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60 * minutes


def _shown_limits(limits: KeyLimits) -> str:
    given = limits.model_dump(exclude_none=True)
    return " ".join(f"{name}={value:g}" for name, value in given.items()) or "none"


def _state(record: KeyRecord) -> str:
    from streaming.security.keys import today_utc

    if record.disabled:
        return "disabled"
    return "expired" if record.expired(today_utc()) else "valid"


def _change(file: Path, which: str, change: Callable[[KeyRecord], KeyRecord | None]) -> None:
    """Change one key, or take it out where ``change`` gives None."""
    from streaming.errors import SettingsError
    from streaming.security import keys

    records = keys.read_keys(file)
    found = [record for record in records if which in (record.id, record.name)]
    if len(found) != 1:
        ids = ", ".join(record.id for record in found)
        many = f"{which} has several keys; accepted: {ids}"
        raise SettingsError(many if found else f"no key is called {which}; see `a2p keys list`")
    changed = {found[0].id: change(found[0])}
    kept = [changed.get(record.id, record) for record in records]
    keys.write_keys(file, [record for record in kept if record is not None])
