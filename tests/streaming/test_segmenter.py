"""The segmenter opens, closes and cuts where it says it does."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streaming.segmenter import Boundary, Closed, Opened, Segmenter, SegmenterConfig

FRAME = 512


def run(probabilities: list[float], **config: float) -> list[Boundary]:
    """Boundaries of a stream that is flushed at its end."""
    segmenter = Segmenter(SegmenterConfig(**config), FRAME)
    boundaries = [found for value in probabilities for found in segmenter.push(value)]
    return boundaries + segmenter.flush("stop")


def frames(duration_s: float) -> int:
    """Frames in a duration, rounded."""
    return round(duration_s * 16_000 / FRAME)


def test_silence_opens_nothing() -> None:
    """Non-speech of any length gives no boundary."""
    assert run([0.1] * 2000) == []


def test_a_click_opens_nothing() -> None:
    """Speech shorter than the onset time does not open a segment."""
    assert run([0.0] * 20 + [0.9] * 2 + [0.0] * 50) == []


def test_opens_with_pre_roll_and_closes_after_the_hangover() -> None:
    """A segment spans pre-roll, speech and hangover; its speech times are told apart."""
    opened, closed = run([0.0] * 50 + [0.9] * 30 + [0.0] * 50)
    assert isinstance(opened, Opened) and isinstance(closed, Closed)
    assert opened.onset_sample == 50 * FRAME
    assert opened.start_sample == 50 * FRAME - 4800
    assert closed.speech_end_sample == 80 * FRAME
    assert 0 <= closed.end_sample - (80 * FRAME + 8000) < FRAME
    assert closed.keep and closed.reason == "endpoint"


def test_pre_roll_stops_at_the_start_of_the_audio() -> None:
    """Speech at the very beginning starts at sample 0."""
    opened = run([0.9] * 30)[0]
    assert isinstance(opened, Opened) and opened.start_sample == 0


def test_pre_roll_stops_at_the_previous_segment() -> None:
    """Speech soon after an endpoint does not take audio of the segment before."""
    first_open, first_close, second_open, _ = run(
        [0.9] * 20 + [0.0] * 4 + [0.9] * 20, hangover_s=0.1
    )
    assert isinstance(first_close, Closed) and isinstance(second_open, Opened)
    assert second_open.start_sample == first_close.end_sample
    assert isinstance(first_open, Opened)


def test_release_threshold_keeps_a_weak_voice_in_the_segment() -> None:
    """Between the two thresholds an open segment goes on, but none opens."""
    assert run([0.4] * 100) == []
    assert len(run([0.9] * 10 + [0.4] * 100)) == 2


def test_too_little_speech_is_not_kept() -> None:
    """A segment below the minimum of speech closes with keep=False."""
    closed = run([0.9] * 4 + [0.0] * 40)[-1]
    assert isinstance(closed, Closed) and not closed.keep


def test_hangover_shrinks_with_the_length() -> None:
    """A pause of 0.35 s ends a long segment but not a short one."""
    pause = [0.0] * 11
    assert len(run([0.9] * frames(3) + pause + [0.9] * 20)) == 2
    assert len(run([0.9] * frames(12) + pause + [0.9] * 20)) == 4


def test_cuts_at_the_weakest_recent_frame() -> None:
    """At the maximum length the cut is behind the least speech-like frame of the last 0.6 s."""
    speech = [0.9] * 600
    weakest = frames(14) - 8
    speech[weakest] = 0.5
    _, closed, opened, *_ = run(speech)
    assert isinstance(closed, Closed) and isinstance(opened, Opened)
    assert closed.reason == "max_length"
    assert closed.end_sample == opened.start_sample == (weakest + 1) * FRAME


def test_a_word_cut_in_two_keeps_its_rest() -> None:
    """What follows a cut is kept however short it is."""
    length = frames(14) + 1
    boundaries = run([0.9] * length + [0.0] * 40)
    last = boundaries[-1]
    assert isinstance(last, Closed) and last.keep


def test_flush_closes_at_once() -> None:
    """A flush ends the open segment where the audio ends, with its reason."""
    segmenter = Segmenter(SegmenterConfig(), FRAME)
    for _ in range(20):
        segmenter.push(0.9)
    (closed,) = segmenter.flush("flush")
    assert isinstance(closed, Closed)
    assert (closed.end_sample, closed.reason) == (20 * FRAME, "flush")
    assert segmenter.flush("flush") == []


@given(st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.95]), max_size=1500), st.data())
def test_segments_never_overlap_or_lose_speech(levels: list[float], data: st.DataObject) -> None:
    """Segments are in order, disjoint, bounded; speech above the threshold for long is inside."""
    repeat = data.draw(st.integers(1, 6))
    stream = [level for level in levels for _ in range(repeat)][:2000]
    boundaries = run(stream)
    opened = [item for item in boundaries if isinstance(item, Opened)]
    closed = [item for item in boundaries if isinstance(item, Closed)]
    spans = [(o.start_sample, c.end_sample) for o, c in zip(opened, closed, strict=True)]
    assert [o.segment_id for o in opened] == [c.segment_id for c in closed]
    assert all(start < end <= start + 14 * 16_000 + FRAME for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    run_length = 0
    for index, level in enumerate(stream):
        run_length = run_length + 1 if level >= 0.5 else 0
        if run_length >= 3:
            for at in range(index - 2, index + 1):
                assert any(start <= at * FRAME < end for start, end in spans)


@given(
    st.lists(st.sampled_from([0.0, 0.4, 0.6, 0.95]), min_size=1, max_size=300), st.integers(1, 8)
)
def test_settled_audio_is_never_moved_by_a_cut(levels: list[float], repeat: int) -> None:
    """What ``settled_sample`` promises while a segment is open holds when it closes."""
    segmenter = Segmenter(SegmenterConfig(max_s=3.0, soft_max_s=2.0), FRAME)
    promised = 0
    for level in (level for level in levels for _ in range(repeat)):
        for boundary in segmenter.push(level):
            if isinstance(boundary, Closed):
                assert boundary.end_sample >= promised
        promised = segmenter.settled_sample if segmenter.open else 0
