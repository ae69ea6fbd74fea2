"""The command ``a2p``. Whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from streaming.cli import (
    bench,
    convert,
    data,
    evaluation,
    files,
    glossaries,
    keys,
    live,
    published,
    split,
    training,
    weights,
)

app = typer.Typer(
    name="a2p",
    help="Live captions that get your domain's terms right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
live.register(app)
files.register(app)
glossaries.register(app)
weights.register(app)
data.register(app)
training.register(app)
convert.register(app)
split.register(app)
evaluation.register(app)
published.register(app)
bench.register(app)
keys.register(app)

INTERRUPTED = 130  # what a shell reports for a program that was stopped by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``a2p``; an error that was foreseen is one line on standard error.

    Args:
        arguments: what follows ``a2p`` on the command line, that of the process by default.

    Returns:
        The exit code: 0, 1 after an error, 2 after a wrong command line.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(app)(given, prog_name="a2p", standalone_mode=False)
    except typer.TyperException as error:
        return _usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone. Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not _foreseen(error) or "--debug" in given:
            raise
        return _complain(str(error), 1)
    return code if isinstance(code, int) else 0


def _foreseen(error: Exception) -> bool:
    from a2p_engine.errors import A2PError

    # An error of the clients can only come from a module that is loaded already.
    clients = sys.modules.get("clients.errors")
    return isinstance(error, (A2PError, clients.ClientError) if clients else A2PError)


def _usage_error(error: typer.TyperException) -> int:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if not message.strip():  # a group without a command has shown its help
        return error.exit_code
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return _complain(f"{message.rstrip('.')}{hint}", error.exit_code)


def _complain(message: str, code: int) -> int:
    line = " ".join(message.split())
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        line = f"\x1b[31m{line}\x1b[0m"
    print(line, file=sys.stderr)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"a2p-live {version('a2p-live')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and everything that is logged.")
    ] = False,
) -> None:
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)
