"""Unforeseen errors on their way into the log.

The text of an error may quote what it stumbled over, and here that is what somebody said, or a
glossary. So the log gets the traceback and the error's class; its text only where it is about the
machine.
"""

from __future__ import annotations

from a2p_engine.errors import ModelError

# Files, memory, devices; what CUDA, torch and CTranslate2 raise is a RuntimeError.
TELLING = (OSError, MemoryError, ImportError, RuntimeError, ModelError)


class TextWithheld(Exception):
    """Stands in the log for an error whose text may quote what was said."""


def for_log(error: BaseException) -> BaseException:
    """What to give to a logger as ``exc_info``: the error, or its traceback without its text."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = for_log(cause) if cause is not None else None
    if isinstance(error, TELLING) and before is cause:
        return error
    name = type(error).__qualname__
    shown = TextWithheld(f"{name}: {error}" if isinstance(error, TELLING) else name)
    shown.__cause__ = before
    return shown.with_traceback(error.__traceback__)
