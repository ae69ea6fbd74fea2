"""A client made with deepgram-sdk 4.3.0; runs in the virtual environment that has it.

    python deepgram4_client.py ws://HOST:PORT FILE OPTIONS

sends a file of audio, waits for the answer to ``finalize``, closes, and writes each event of the
package as a line of JSON: [event, message].
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from deepgram import DeepgramClient, DeepgramClientOptions, LiveOptions, LiveTranscriptionEvents

BLOCK_BYTES = 3200
EVENTS = {  # and the name of the handlers' argument
    LiveTranscriptionEvents.Open: "open",
    LiveTranscriptionEvents.Transcript: "result",
    LiveTranscriptionEvents.Metadata: "metadata",
    LiveTranscriptionEvents.SpeechStarted: "speech_started",
    LiveTranscriptionEvents.UtteranceEnd: "utterance_end",
    LiveTranscriptionEvents.Error: "error",
    LiveTranscriptionEvents.Unhandled: "unhandled",
    LiveTranscriptionEvents.Close: "close",
}


async def main(url: str, audio: bytes, options: dict[str, Any]) -> None:
    """Speak, finish, tell what came."""
    finalized, closed = asyncio.Event(), asyncio.Event()
    config = DeepgramClientOptions(url=url, options={"keepalive": "true"})
    connection = DeepgramClient("none", config).listen.asyncwebsocket.v("1")

    def handler(event: LiveTranscriptionEvents, argument: str) -> Any:
        async def handle(_: Any, *unnamed: Any, **given: Any) -> None:
            message = unnamed[0] if unnamed else given[argument]
            print(json.dumps([event.name, json.loads(message.to_json())]), flush=True)
            if getattr(message, "from_finalize", False):
                finalized.set()
            if event is LiveTranscriptionEvents.Metadata:
                closed.set()

        return handle

    for event, argument in EVENTS.items():
        connection.on(event, handler(event, argument))
    if not await connection.start(LiveOptions(**options), addons={"vad": "energy"}):
        sys.exit("the connection was refused")
    for at in range(0, len(audio), BLOCK_BYTES):
        await connection.send(audio[at : at + BLOCK_BYTES])
        await asyncio.sleep(0.01)
    await connection.finalize()
    await asyncio.wait_for(finalized.wait(), 10)
    await connection.send(json.dumps({"type": "CloseStream"}))
    await asyncio.wait_for(closed.wait(), 10)
    await connection.finish()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), json.loads(sys.argv[3])))
