"""Caption a recording with a glossary, without a server.

Run it with: python examples/transcribe_file.py examples/data/ward_round.flac
"""

from __future__ import annotations

import sys

from a2p_engine import glossary
from a2p_engine.audio import read_audio
from a2p_engine.engine import Engine
from streaming.offline import transcribe

TERMS = "examples/data/medical_terms.txt"


def main(path: str) -> None:
    """Print each caption with the glossary terms it uses."""
    engine = Engine.load()
    terms = glossary.load(TERMS).terms
    for final in transcribe(engine, read_audio(path), glossary=terms):
        print(f"{final.start_sample / engine.sample_rate_hz:6.1f} s  {final.text}")
        for hit in final.terms:
            mark = "written" if hit.used else "offered"
            print(f"          {mark}: {hit.term} ({hit.probability:.2f})")


if __name__ == "__main__":
    main(sys.argv[1])
