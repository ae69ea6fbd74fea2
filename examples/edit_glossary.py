"""Teach a running session new terms in mid-sentence.

Run it with: a2p serve
and beside it: python examples/edit_glossary.py examples/data/ward_round.flac
"""

from __future__ import annotations

import asyncio
import sys

from clients.audio import stream_file
from clients.client import CaptionClient
from clients.events import Final, GlossaryUpdated, SpeechStarted

LEARNT = [
    "empagliflozin",
    "rosuvastatin",
    {"term": "levetiracetam", "sounds_like": ["lev a tira see tam"]},
]


async def main(path: str, url: str = "ws://127.0.0.1:8765/ws") -> None:
    """The first sentence knows no drugs; the ones after it do."""
    async with CaptionClient(url, glossary=[]) as client:
        async for event in client.caption(stream_file(path)):
            if isinstance(event, SpeechStarted) and event.segment_id == 1:
                await client.edit_glossary(add=LEARNT)
            elif isinstance(event, GlossaryUpdated):
                print(f"(glossary version {event.version}: {event.terms} terms)")
            elif isinstance(event, Final):
                print(event.text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
