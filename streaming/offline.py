"""The live pipeline over a whole recording, as fast as the engine goes and without a server."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from a2p_engine.types import Samples, SessionOptions, Term
from streaming import vad
from streaming.backend import Backend
from streaming.events import Event, Final
from streaming.segmenter import samples
from streaming.session import SessionConfig, SessionCore

BLOCK_SAMPLES = samples(1.0)  # bounds what is held beside the recording itself
PIECE_S = 5.0  # the detector hears it in the time of a short step


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
    blocks = (audio[at : at + BLOCK_SAMPLES] for at in range(0, len(audio), BLOCK_SAMPLES))
    for piece in pieces(engine, blocks, config, glossary):
        yield from piece


def pieces(
    engine: Backend,
    blocks: Iterable[Samples],
    config: OfflineConfig,
    glossary: Sequence[Term] = (),
    *,
    index: Path | None = None,
) -> Generator[list[Event], None, None]:
    """Events of a recording that comes in blocks, piece of work by piece of work.

    A piece is opening the session, hearing up to ``PIECE_S`` of audio, or one step, so that whoever
    drives it can let others work in between.

    Raises:
        A2PError: the engine refuses the session or fails on a segment; whatever ``blocks`` raises.
    """
    handle, _ = engine.open(config.options, glossary, index=index)
    try:
        yield []
        never_early = config.session.segmenter.hangover_s
        session = replace(config.session, partials=False, pause_s=never_early)
        core = SessionCore(handle, session, vad.create(config.vad))
        heard = 0
        for block in blocks:
            told = core.receive_audio(block)
            heard += len(block)
            if core.ready or told or heard >= samples(PIECE_S):
                yield told
                yield from _work_off(engine, core)
                heard = 0
        yield core.finish()
        yield from _work_off(engine, core)
    finally:
        engine.close(handle)


def _work_off(engine: Backend, core: SessionCore) -> Iterator[list[Event]]:
    while request := core.next_request():
        yield core.receive_result(engine.step(request))
