"""``a2p bench openai``: what is added to the model's own time."""

from __future__ import annotations

import json

import pytest

from streaming.cli import main


@pytest.mark.slow
@pytest.mark.parametrize(("bound_ms", "code"), [(10_000, 0), (0, 1)])
def test_what_is_added_is_told_and_judged(
    bound_ms: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both interfaces and three windows; the exit code says whether the bound holds."""
    assert main(["bench", "openai", "--repeat", "1", "--bound-ms", str(bound_ms), "--json"]) == code
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["interface"], row["window_s"]) for row in rows] == [
        (interface, window_s)
        for interface in ("chat", "transcriptions")
        for window_s in (1.0, 5.0, 14.0)
    ]
    assert all(row["added_p50_ms"] > 0 for row in rows)
    assert rows[2]["model_p50_ms"] > rows[0]["model_p50_ms"]
