"""A recording uploaded with the OpenAI package to `a2p serve` with Whisper base."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import soundfile
from openai import OpenAI

from streaming.cli.local_server import local_server

DATA = Path(__file__).parents[2] / "examples" / "data"


@pytest.mark.slow
def test_a_recording_is_captioned_with_its_terms() -> None:
    """The drugs are written right with the glossary, told as terms, and in place in subtitles."""
    with local_server(["--glossary", f"ward={DATA / 'medical_terms.txt'}"]) as url:
        address = url.replace("ws://", "http://").removesuffix("/ws") + "/v1"
        with OpenAI(base_url=address, api_key="none", timeout=100) as client:
            create = client.audio.transcriptions.create
            with (DATA / "ward_round.flac").open("rb") as file:
                told = create(
                    file=file,
                    model="whisper-1",
                    language="en",
                    response_format="verbose_json",
                    timestamp_granularities=["segment", "word"],
                    extra_body={"glossary": "ward"},
                )
            with (DATA / "ward_round.flac").open("rb") as file:
                subtitles = create(
                    file=file,
                    model="whisper-1",
                    prompt="empagliflozin, warfarin",
                    response_format="vtt",
                )
    written = {term["term"] for segment in told.segments for term in segment.terms if term["used"]}
    assert {"empagliflozin", "rosuvastatin", "warfarin"} <= written
    assert all(term in told.text for term in written)
    assert told.language == "en"
    assert told.duration == pytest.approx(
        soundfile.info(DATA / "ward_round.flac").duration, abs=0.01
    )
    assert [word.word for word in told.words] == told.text.split()
    starts = [word.start for word in told.words]
    assert all(one <= two for one, two in itertools.pairwise(starts))
    assert 0 < starts[0] < starts[-1] < told.duration
    assert all(-1.0 < segment.avg_logprob < 0 for segment in told.segments)
    assert subtitles.startswith("WEBVTT\n\n00:00:0")
    assert "empagliflozin" in subtitles
