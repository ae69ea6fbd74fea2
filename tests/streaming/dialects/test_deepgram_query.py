"""The query of Deepgram's live interface: what it asks for, in all ways that clients write it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.audio.pcm import AudioFormat
from streaming.commands import Entry, GlossaryChoice, Offer, Start, StreamOptions
from streaming.dialects.base import Handshake
from streaming.dialects.deepgram_query import ListenOptions, read_query
from streaming.errors import BadOption

OFFER = Offer(languages=("auto", "en", "de"), glossaries=("ward",))


def read(query: str) -> ListenOptions:
    """The options of a query as it stands in a URL."""
    pairs = tuple(parse_qsl(query, keep_blank_values=True))
    return read_query(Handshake(path="/v1/listen", query=pairs), OFFER)


def start(query: str) -> Start:
    """The session that a query begins."""
    return read(query).start()


def test_nothing_said_means_containers_and_finals_only() -> None:
    """As with the real server: no interims, no events, the container says what it holds."""
    assert start("model=nova-3") == Start(
        audio=AudioFormat(encoding="container"),
        language="en",
        glossary=GlossaryChoice(default=True),
        options=StreamOptions(partials=False, stats_interval_ms=0),
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("encoding=linear16&sample_rate=8000", ("pcm_s16le", 8_000, 1)),
        ("encoding=linear16&sample_rate=16000", ("pcm_s16le", 16_000, 1)),
        ("encoding=linear16&sample_rate=24000", ("pcm_s16le", 24_000, 1)),
        ("encoding=linear16&sample_rate=48000.0&channels=2", ("pcm_s16le", 48_000, 2)),
        ("encoding=linear16", ("pcm_s16le", 16_000, 1)),
        ("encoding=linear32&sample_rate=44100", ("pcm_f32le", 44_100, 1)),
        ("encoding=mulaw", ("mulaw", 8_000, 1)),
        ("encoding=alaw&sample_rate=16000", ("alaw", 16_000, 1)),
        ("encoding=opus&sample_rate=48000&channels=2", ("opus", 48_000, 2)),
        ("encoding=ogg-opus", ("container", 16_000, 1)),
        ("encoding=flac", ("container", 16_000, 1)),
        ("sample_rate=48000&channels=1", ("container", 48_000, 1)),
        ("encoding=&sample_rate=", ("container", 16_000, 1)),
    ],
)
def test_audio(query: str, expected: tuple[Any, int, int]) -> None:
    """Every encoding and rate has its format; empty is as good as absent."""
    encoding, rate_hz, channels = expected
    audio = AudioFormat(encoding=encoding, sample_rate_hz=rate_hz, channels=channels)
    assert read(query).audio == audio


@pytest.mark.parametrize("value", ["true", "True", "TRUE", "1"])
def test_booleans_are_read_however_they_are_written(value: str) -> None:
    """Old clients write them as Python does."""
    options = read(f"interim_results={value}&vad_events={value}&detect_language={value}")
    assert options.interim_results and options.vad_events and options.multilingual
    assert options.start().options.partials


@pytest.mark.parametrize(
    ("value", "told", "endpoint_ms"),
    [
        ("300", True, 300),
        ("25", True, 200),
        ("10", True, 200),
        ("0", True, 200),
        ("9999", True, 5000),
        ("9" * 400, True, 5000),
        ("true", True, 500),
        ("false", False, 5000),
        ("False", False, 5000),
        ("", True, 500),
    ],
)
def test_endpointing_comes_as_near_as_the_engine_can(
    value: str, told: bool, endpoint_ms: int
) -> None:
    """Between 0.2 s and 5 s; false is as long as can be, and is not told."""
    options = read(f"endpointing={value}")
    assert (options.endpointing, options.endpoint_ms) == (told, endpoint_ms)
    assert options.start().options.endpoint_ms == endpoint_ms


def test_an_utterance_ends_behind_a_gap_that_is_looked_for_on_the_audio_clock() -> None:
    """Statistics tell how far it is; a segment is not kept open for longer than the gap."""
    options = start("utterance_end_ms=1000&endpointing=false").options
    assert options.endpoint_ms == 1000 and options.stats_interval_ms == 250
    assert start("utterance_end_ms=1000&endpointing=300").options.endpoint_ms == 300
    assert start("utterance_end_ms=1").options.endpoint_ms == 200
    assert start("endpointing=300").options.stats_interval_ms == 0


@pytest.mark.parametrize(
    ("value", "language"),
    [("en", "en"), ("en-US", "en"), ("de_AT", "de"), ("DE", "de"), ("multi", "auto"), ("", "en")],
)
def test_languages_are_those_of_locales(value: str, language: str) -> None:
    """The first part counts; several languages are found out one by one."""
    assert read(f"language={value}").language == language


def test_keyterms_are_repeated_and_without_a_limit() -> None:
    """Each is one entry, with its spaces; what is repeated counts once."""
    options = read("keyterm=Dr.+Ahn&keyterm=apixaban%3A2&keyterm=Dr.+Ahn&keyterm=")
    assert options.keyterms == ("Dr. Ahn", "apixaban:2")
    many = "&".join(f"keyterm=term+{number}" for number in range(500))
    assert len(start(many).glossary.entries) == 500


@pytest.mark.parametrize(
    ("keyword", "entry"),
    [
        ("apixaban", "apixaban"),
        ("apixaban:1", {"term": "apixaban", "weight": 1.0}),
        ("apixaban:2", {"term": "apixaban", "weight": 2.0}),
        ("apixaban:2.5", {"term": "apixaban", "weight": 2**1.5}),
        ("apixaban:100", {"term": "apixaban", "weight": 1000.0}),
        ("apixaban:inf", {"term": "apixaban", "weight": 1000.0}),
        ("ratio 1:2:3", {"term": "ratio 1:2", "weight": 4.0}),
        ("time:noon", "time:noon"),
        ("x:nan", "x:nan"),
        (":3", ":3"),
    ],
)
def test_keywords_have_weights(keyword: str, entry: Entry) -> None:
    """An intensifier doubles the odds with each step; what is no number is part of the term."""
    assert read(f"keywords={keyword}").keywords == (entry,)


@pytest.mark.parametrize("keyword", ["um:-2", "um:0", "um:-inf"])
def test_keywords_to_be_suppressed_are_no_terms(keyword: str) -> None:
    """They would otherwise become likely."""
    assert read(f"keywords={keyword}&keywords=apixaban:2").keywords == (
        {"term": "apixaban", "weight": 2.0},
    )


def test_keyterms_come_on_top_of_the_servers_glossary() -> None:
    """The one that was named, else the server's default."""
    chosen = start("glossary=ward&keyterm=a&keywords=b").glossary
    assert chosen == GlossaryChoice(name="ward", entries=("a", "b"))
    assert start("keyterm=a").glossary == GlossaryChoice(entries=("a",), default=True)


def test_tags_and_extras_are_kept() -> None:
    """For the metadata."""
    options = read("tag=a&tag=b&extra=k:v&extra=k2")
    assert options.tags == ("a", "b") and options.extra == (("k", "v"), ("k2", ""))


def test_what_is_not_known_here_is_skipped() -> None:
    """Whatever the value."""
    unknown = "diarize=true&redact=pci&version=latest&callback=x&no_delay=maybe&numerals=5&\0=1"
    assert read(unknown) == read("")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("encoding=g729", r'encoding is "g729"; accepted: linear16, .*opus'),
        ("sample_rate=a", r'sample_rate is "a"; accepted: a whole number from 8000 to 192000'),
        ("sample_rate=nan", "sample_rate is"),
        ("sample_rate=1e999", "sample_rate is"),
        ("sample_rate=16000.5", "sample_rate is"),
        ("channels=0", r'channels is "0"; accepted: a whole number from 1 to 20'),
        ("interim_results=yes", r'interim_results is "yes"; accepted: true, 1, false, 0'),
        ("endpointing=soon", r'endpointing is "soon"; accepted: a number of milliseconds'),
        ("endpointing=-5", "endpointing is"),
        ("endpointing=²", "endpointing is"),
        ("utterance_end_ms=0", "utterance_end_ms is"),
        ("language=xx", r'language is "xx"; accepted: multi, auto, en, de'),
        ("glossary=other", r'glossary is "other"; accepted: ward'),
        ("vad=ear", r'vad is "ear"; accepted: '),
    ],
)
def test_values_that_cannot_be_used_are_named(query: str, message: str) -> None:
    """With what is accepted."""
    with pytest.raises(BadOption, match=message):
        read(query)


NAMES = (
    "model encoding sample_rate channels multichannel language interim_results endpointing keyterm "
    "keywords utterance_end_ms vad_events smart_format punctuate glossary tag extra vad x"
).split()


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=12)), max_size=6))
def test_any_query_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    """Nothing but a BadOption comes out."""
    try:
        options = read_query(Handshake(path="/v1/listen", query=tuple(pairs)), OFFER)
    except BadOption as error:
        assert "accepted: " in str(error)
    else:
        assert 200 <= options.start().options.endpoint_ms <= 5000
