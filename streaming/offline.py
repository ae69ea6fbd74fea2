"""The live pipeline over a whole recording, as fast as the engine goes and without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from a2p_engine.types import Samples, SessionOptions, Term
from streaming import vad
from streaming.backend import Backend
from streaming.events import Event, Final
from streaming.segmenter import samples
from streaming.session import SessionConfig, SessionCore

BLOCK_SAMPLES = samples(1.0)  # bounds what is held beside the recording itself


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineConfig:
    """How to transcribe a recording.

    Attributes:
        options: what is asked of the engine.
        session: segmentation; nothing is decoded before its segment is over, as nobody watches.
        vad: name of the voice detector.
    """

    options: SessionOptions = field(default_factory=SessionOptions)
    session: SessionConfig = field(default_factory=SessionConfig)
    vad: str = vad.DEFAULT_DETECTOR


def transcribe(
    engine: Backend,
    audio: Samples,
    config: OfflineConfig | None = None,
    glossary: Sequence[Term] = (),
) -> list[Final]:
    """Finals of a float32 [n] recording at 16 kHz, in order.

    Raises:
        A2PError: the engine refuses the session or fails on a segment.
    """
    chosen = config or OfflineConfig()
    return [item for item in events(engine, audio, chosen, glossary) if isinstance(item, Final)]


def events(
    engine: Backend, audio: Samples, config: OfflineConfig, glossary: Sequence[Term] = ()
) -> Iterator[Event]:
    """All events of the recording as they arise."""
    handle, _ = engine.open(config.options, glossary)
    try:
        never_early = config.session.segmenter.hangover_s
        session = replace(config.session, partials=False, pause_s=never_early)
        core = SessionCore(handle, session, vad.create(config.vad))
        for at in range(0, len(audio), BLOCK_SAMPLES):
            yield from core.receive_audio(audio[at : at + BLOCK_SAMPLES])
            yield from _work_off(engine, core)
        yield from core.finish()
        yield from _work_off(engine, core)
    finally:
        engine.close(handle)


def _work_off(engine: Backend, core: SessionCore) -> Iterator[Event]:
    while request := core.next_request():
        yield from core.receive_result(engine.step(request))
