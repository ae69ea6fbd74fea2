"""Send a recording to a server at real-time pace and print captions as they grow.

Run it with: a2p serve --glossary ward=examples/data/glossary_10k.txt
and beside it: python examples/live_captions.py examples/data/ward_round.flac
"""

from __future__ import annotations

import asyncio
import sys

from clients.audio import stream_file
from clients.client import CaptionClient
from clients.events import Final, Partial


async def main(path: str, url: str = "ws://127.0.0.1:8765/ws") -> None:
    """Committed text is written as it is, text that may still change in brackets."""
    async with CaptionClient(url, glossary="ward") as client:
        async for event in client.caption(stream_file(path)):
            if isinstance(event, Partial):
                print(f"  … {event.committed}[{event.volatile}]")
            elif isinstance(event, Final):
                print(f"{event.start_s:5.1f} to {event.end_s:5.1f} s: {event.text}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
