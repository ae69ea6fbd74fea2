"""Wire protocols the server speaks; a new one is one file and one line in ``DIALECTS``."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata

from streaming.commands import Offer
from streaming.dialects.base import Dialect, Handshake
from streaming.dialects.deepgram import Deepgram
from streaming.dialects.native import Native
from streaming.dialects.realtime import Realtime
from streaming.dialects.vosk import Vosk
from streaming.settings import ServerSettings

DialectBuilder = Callable[[Handshake, Offer, ServerSettings], Dialect]


def _native(handshake: Handshake, offer: Offer, settings: ServerSettings) -> Dialect:
    return Native(offer, subprotocols=handshake.subprotocols)


def _vosk(handshake: Handshake, offer: Offer, settings: ServerSettings) -> Dialect:
    rate_hz = settings.vosk_sample_rate_hz
    return Vosk(handshake, offer, sample_rate_hz=rate_hz, opened_s=time.time())


def _realtime(handshake: Handshake, offer: Offer, settings: ServerSettings) -> Dialect:
    named = settings.default_glossary is not None
    return Realtime(handshake, offer, token=secrets.token_hex(8), named_glossary=named)


def _deepgram(handshake: Handshake, offer: Offer, settings: ServerSettings) -> Dialect:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    version = metadata.version("a2p-live")
    return Deepgram(handshake, offer, request_id=str(uuid.uuid4()), created=now, version=version)


# By the path of the websocket.
DIALECTS: dict[str, DialectBuilder] = {
    "/ws": _native,
    "/vosk": _vosk,
    "/v1/realtime": _realtime,
    "/v1/listen": _deepgram,
}
