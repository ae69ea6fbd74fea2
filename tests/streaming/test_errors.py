"""Every error has one wire code and one close code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from a2p_engine.errors import A2PError, DownloadError, GlossaryError, ModelError, UnknownSession
from streaming import errors
from streaming.errors import ANSWERS, BadJson, ProtocolError, answer_to, error_event

# Nobody reads them, there is no client any more, no audio file is read here.
NEVER_SENT = ("slow_reader", "client_gone", "bad_audio")
PROTOCOL_PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_an_error_without_a_row_has_its_ancestors_answer() -> None:
    """A new subclass is answered like its parent until it gets a row."""
    assert answer_to(DownloadError("x")) == ANSWERS[ModelError]
    assert answer_to(UnknownSession("x")) == answer_to(ZeroDivisionError()) == ANSWERS[Exception]

    class Fresh(ProtocolError):
        """An error nobody has listed."""

    assert answer_to(Fresh("x")) == ANSWERS[ProtocolError]


def test_codes_are_unique() -> None:
    """A wire code tells one kind of error."""
    codes = [answer.code for answer in ANSWERS.values()]
    assert len(set(codes)) == len(codes)


def test_texts_of_bugs_stay_in_the_log() -> None:
    """What was raised on purpose is told, anything else is not."""
    assert error_event(BadJson("not JSON: x"), fatal=True).message == "not JSON: x"
    assert "secret" not in error_event(RuntimeError("secret"), fatal=False).message


@pytest.mark.parametrize("code", [a.code for a in ANSWERS.values() if a.code != "protocol_error"])
def test_the_documentation_lists_the_code(code: str) -> None:
    """docs/protocol.md has a row with the close code, or says that there is none."""
    if code in NEVER_SENT:
        return
    row = re.search(rf"\| `{code}` \| (\d*)", PROTOCOL_PAGE.read_text(encoding="utf-8"))
    assert row, f"{code} is not documented"
    expected = {str(answer.close) for answer in ANSWERS.values() if answer.code == code}
    assert not row[1] or {row[1]} == expected


def test_the_tree_in_the_docstring_is_complete() -> None:
    """Every error of the module is in the picture."""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, A2PError) and value is not GlossaryError:
            if value.__module__ == errors.__name__:
                assert name in (errors.__doc__ or "")
