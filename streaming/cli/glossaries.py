"""``a2p glossary import``, ``export``, ``list``, ``history``: a glossary store from the shell.

They work on the file, whether or not a server is using it; a running server sees what they change
within a second.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streaming.cli import common
from streaming.cli.files import AsJson, glossary_app

if TYPE_CHECKING:
    from streaming.glossaries.records import StoredGlossary
    from streaming.glossaries.store import GlossaryStore

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the glossary.", show_default=False)
]
StoreOption = Annotated[
    Path,
    typer.Option(
        "--store", "-s", envvar="A2P_GLOSSARY_STORE", help="File of the store.", show_default=False
    ),
]
OwnerOption = Annotated[
    str | None,
    typer.Option(help="Name of the API key it belongs to.", show_default="everybody"),
]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="An older one.", show_default="current")
]


def register(_: typer.Typer) -> None:
    """Add the commands of this module to ``a2p glossary``."""
    glossary_app.command("import")(import_)
    glossary_app.command()(export)
    glossary_app.command("list")(list_)
    glossary_app.command()(history)


def import_(
    name: NameArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="txt, csv, tsv, json or tbx.", show_default=False)
    ],
    store: StoreOption,
    owner: OwnerOption = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language", "-l", help="Spoken language, of several.", show_default="English"
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Language of the translations.", show_default="the other of two"),
    ] = None,
) -> None:
    """Store a glossary under a name, in place of what it was; the store is made if need be."""
    from a2p_engine import glossary
    from a2p_engine.errors import GlossaryError
    from a2p_engine.glossary_formats import Languages

    parsed = glossary.load(file, Languages(language, target))
    for remark in parsed.notes:
        common.note(f"glossary {file}: {remark}")
    for entry, reason in parsed.rejected[:20]:
        common.note(f"left out: {entry!r}: {reason}")
    if len(parsed.rejected) > 20:
        common.note(f"left out: {len(parsed.rejected) - 20} more")
    if parsed.rejected and not parsed.terms:
        raise GlossaryError(f"glossary {file} has no usable term")
    with _opened(store, create=True) as opened:
        change = opened.replace(owner, name, parsed.terms, author=_user())
    print(
        f"{name}: version {change.glossary.version}, {change.glossary.terms} terms, "
        f"{len(change.added)} added, {len(change.removed)} removed, "
        f"{len(change.replaced)} replaced"
    )


def export(
    name: NameArgument,
    store: StoreOption,
    form: Annotated[
        Literal["csv", "tsv", "json", "txt"],
        typer.Option("--format", "-f", help="'txt' has the terms alone."),
    ] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default="stdout")
    ] = None,
    owner: OwnerOption = None,
    version: VersionOption = None,
) -> None:
    """Write a stored glossary to a file."""
    import sys

    from a2p_engine.errors import InputError
    from a2p_engine.glossary_formats import render

    with _opened(store) as opened:
        stored = _find(opened, owner, name)
        if version is not None:
            stored = opened.at(stored, version)
        parts = render(opened.terms(stored), form)
        if output is None:
            sys.stdout.writelines(parts)
            return
        try:
            with output.open("w", encoding="utf-8") as file:
                file.writelines(parts)
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from error


def list_(store: StoreOption, as_json: AsJson = False) -> None:
    """List the glossaries of a store."""
    with _opened(store) as opened:
        listed = opened.glossaries()
    if as_json:
        found = [
            {"name": g.name, "owner": g.owner, "version": g.version, "terms": g.terms}
            for g in listed
        ]
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    rows = [(g.name, g.owner or "-", g.version, g.terms, _time(g.changed_s)) for g in listed]
    common.show_table(("name", "owner", "version", "terms", "changed"), rows)


def history(
    name: NameArgument, store: StoreOption, owner: OwnerOption = None, as_json: AsJson = False
) -> None:
    """Say which versions of a glossary are kept, and what changed in each."""
    from dataclasses import asdict

    with _opened(store) as opened:
        versions = opened.history(_find(opened, owner, name))
    if as_json:
        print(json.dumps([asdict(version) for version in versions], ensure_ascii=False, indent=2))
        return
    rows = [
        (v.version, _time(v.made_s), v.author, v.action, v.terms, v.added, v.removed, v.replaced)
        for v in versions
    ]
    columns = ("version", "made", "by", "how", "terms", "added", "removed", "replaced")
    common.show_table(columns, rows)


@contextmanager
def _opened(path: Path, *, create: bool = False) -> Iterator[GlossaryStore]:
    from streaming.glossaries.store import GlossaryStore

    store = GlossaryStore(path, create=create)
    try:
        yield store
    finally:
        store.close()


def _find(store: GlossaryStore, owner: str | None, name: str) -> StoredGlossary:
    from streaming.glossaries.records import UnknownGlossary

    found = store.find(owner, name)
    if found is None:
        whose = "shared glossary" if owner is None else f"glossary of {owner!r}"
        raise UnknownGlossary(f"there is no {whose} {name!r}; see `a2p glossary list`")
    return found


def _user() -> str:
    """Who runs the command; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
