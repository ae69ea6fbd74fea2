"""Ask the retriever alone: which terms of a glossary were probably spoken, tick by tick.

Run it with: python examples/retrieve_terms.py examples/data/ward_round.flac
"""

from __future__ import annotations

import sys

from a2p_engine import glossary
from a2p_engine.audio import read_audio
from a2p_engine.engine import Engine
from a2p_engine.types import SessionOptions, StepRequest

TERMS = "examples/data/glossary_10k.txt"
WINDOW_S, TICK_S = 8, 1


def main(path: str) -> None:
    """Hear the first seconds in ticks of one second and print what is offered after each."""
    engine = Engine.load()
    session, _ = engine.open(SessionOptions(top_k=5), glossary.load(TERMS).terms)
    hz = engine.sample_rate_hz
    audio = read_audio(path)[: WINDOW_S * hz]
    for start in range(0, len(audio), TICK_S * hz):
        tick = audio[start : start + TICK_S * hz]
        result = engine.step(
            StepRequest(session=session, segment_id=0, start_sample=0, samples=tick)
        )
        offered = ", ".join(f"{hit.term} {hit.probability:.2f}" for hit in result.terms)
        print(f"{result.end_sample / hz:4.1f} s  {result.text}\n        {offered or '-'}")


if __name__ == "__main__":
    main(sys.argv[1])
