"""Compressed audio off the wire to the engine's: Opus packets, and containers that grow.

Whatever comes in, only ``AudioError`` comes out, and only when nothing can be decoded any more.
"""

from __future__ import annotations

import io
import threading
import weakref
from typing import Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from a2p_engine.errors import AudioError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from streaming.audio import media
from streaming.audio.pcm import AudioDecoder, AudioFormat

CONTAINERS = "WAV, FLAC, MP3, Ogg, WebM or Matroska, fragmented MP4, AAC (ADTS), AMR, AIFF, AU, CAF"
HEAD_BYTES = 12  # of a stream, which tell its container
# FFmpeg's names by what stands where. Guessing, as FFmpeg would, takes more bytes than this.
_SIGNATURES = (
    (0, b"OggS", "ogg"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"fLaC", "flac"),
    (8, b"WAVE", "wav"),
    (4, b"ftyp", "mp4"),
    (0, b"ID3", "mp3"),
    (8, b"AIFF", "aiff"),
    (8, b"AIFC", "aiff"),
    (0, b".snd", "au"),
    (0, b"caff", "caf"),
    (0, b"#!AMR", "amr"),
)
# A message of a few bytes a second, or of nothing but headers, must not fill the memory.
MAX_MESSAGE_S = 900.0
MAX_FRUITLESS_BYTES = 8 * 1024 * 1024  # room for a cover picture
MAX_DAMAGED_PACKETS = 250  # in a row: 5 s of the usual 20 ms
_LIVE_OPTIONS = {"analyzeduration": "1"}  # FFmpeg would listen for seconds before it begins
_EMPTY: Samples = np.zeros(0, np.float32)


class Decoder(Protocol):
    """Turns a stream's bytes into float32 [n], mono, 16 kHz.

    Attributes:
        blocking: whether decoding takes long enough to be done in a thread.
    """

    blocking: bool

    def decode(self, data: bytes) -> Samples:
        """All samples that the bytes so far complete.

        Raises:
            AudioError: the stream can not be decoded; nothing more will come of it.
        """
        ...

    def check_complete(self) -> None:
        """Tell, once, at the end of the stream, whether it ended where it may end.

        Raises:
            TruncatedAudio: it did not; the rest is dropped.
            AudioError: see ``decode``.
        """
        ...

    def finish(self) -> Samples:
        """What is still held, once, after ``check_complete``."""
        ...


def decoder_for(audio_format: AudioFormat) -> Decoder:
    """The decoder of a format."""
    if audio_format.encoding == "opus":
        return OpusDecoder()
    if audio_format.encoding == "container":
        return ContainerDecoder()
    return AudioDecoder(audio_format)


class OpusDecoder:
    """Opus packets (RFC 6716), one a message; each tells its channels and bandwidth itself.

    Some clients call an Ogg stream of them by the same name; it is told by its first message.
    """

    def __init__(self) -> None:
        self.blocking = False
        self._ogg: ContainerDecoder | None = None
        self._begun = False
        codec = av.CodecContext.create("libopus", "r")
        assert isinstance(codec, AudioCodecContext)  # or it would be another codec
        self._codec = codec
        self._codec.layout = "mono"  # stereo packets are mixed by the codec
        self._codec.sample_rate = 48_000
        self._resampler = AudioResampler("flt", None, SAMPLE_RATE_HZ)
        self._latest: AudioFrame | None = None
        self._damaged = 0

    def decode(self, data: bytes) -> Samples:
        """Decode a packet; in place of a damaged one comes silence as long as the one before."""
        if data.startswith(b"OggS") and not self._begun:
            self._ogg, self.blocking = ContainerDecoder(), True
        self._begun = self._begun or bool(data)
        if self._ogg is not None:
            return self._ogg.decode(data)
        frames = self._frames(data) if data else []
        pieces = [media.to_samples(item) for f in frames for item in self._resampler.resample(f)]
        return np.concatenate(pieces) if pieces else _EMPTY

    def finish(self) -> Samples:
        """What the resampler still holds."""
        if self._ogg is not None:
            return self._ogg.finish()
        rest = [media.to_samples(frame) for frame in self._resampler.resample(None)]
        return np.concatenate(rest) if rest else _EMPTY

    def check_complete(self) -> None:
        """Packets are complete; see ``ContainerDecoder`` for a stream of them."""
        if self._ogg is not None:
            self._ogg.check_complete()

    def _frames(self, data: bytes) -> list[AudioFrame]:
        try:
            frames = self._codec.decode(av.Packet(data))
        except (av.FFmpegError, ValueError):
            return self._lost()
        self._damaged = 0
        for frame in frames:
            frame.pts = None
            self._latest = frame
        return frames

    def _lost(self) -> list[AudioFrame]:
        self._damaged += 1
        if self._damaged >= MAX_DAMAGED_PACKETS:
            raise AudioError(
                f"{self._damaged} messages in a row were no Opus packets; with encoding 'opus' "
                "each message is one packet"
            )
        if self._latest is None:
            return []
        silence = AudioFrame(
            self._latest.format.name, self._latest.layout.name, self._latest.samples
        )
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        silence.sample_rate = self._latest.sample_rate
        return [silence]


class ContainerDecoder:
    """A file that is still being written, as recorders and FFmpeg send them.

    FFmpeg reads when it likes, so it does that in a thread of its own. ``decode`` waits until it
    asks for more than there is: threads take turns, and what comes out depends on the bytes alone.
    """

    blocking = True

    def __init__(self) -> None:
        self._head = b""
        self._reader: _Reader | None = None
        self._fruitless_bytes = 0
        self._rest = _EMPTY

    def decode(self, data: bytes) -> Samples:
        """Decode what is complete; containers hold some back, up to a second of audio."""
        if self._reader is None:
            self._head += data
            if len(self._head) < HEAD_BYTES:
                return _EMPTY
            data, self._head = self._head, b""
            self._reader = _Reader(container_of(data[:HEAD_BYTES]))
            # The thread knows the reader but not this decoder; when this goes, so does the thread.
            weakref.finalize(self, self._reader.abandon)
        decoded = self._reader.feed(data)
        self._fruitless_bytes = 0 if len(decoded) else self._fruitless_bytes + len(data)
        if self._fruitless_bytes > MAX_FRUITLESS_BYTES:
            self._reader.abandon()
            raise AudioError(f"{self._fruitless_bytes} bytes in a row held no audio")
        return decoded

    def check_complete(self) -> None:
        """A container may end anywhere, but something must have been in it.

        Raises:
            AudioError: it could not be decoded.
        """
        if self._reader is not None:
            self._rest = self._reader.end()

    def finish(self) -> Samples:
        """What the container and the codec still hold; only ``check_complete`` finds it out."""
        return self._rest


def container_of(head: bytes) -> str:
    """FFmpeg's name for the container that begins with these ``HEAD_BYTES``.

    Raises:
        AudioError: it is none that can be decoded.
    """
    for offset, signature, name in _SIGNATURES:
        if head[offset:].startswith(signature):
            return name
    # MPEG audio begins with 11 set bits; layer 0 stands for AAC (ISO 11172-3, 13818-7).
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3" if head[1] & 0x06 else "aac"
    raise AudioError(
        "the audio is in no known container and its encoding was not told; "
        f"containers: {CONTAINERS}"
    )


class _Reader:
    """A thread that decodes, and the pipe it reads from; one side works while the other waits."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._changed = threading.Condition()
        self._unread = io.BytesIO()
        self._hungry = True  # the thread has read everything and waits for more
        self._closed = False  # there will be no more
        self._done = False  # the thread has ended
        self._decoded: list[Samples] = []
        self._fresh = 0  # samples in it
        self._error: Exception | None = None
        threading.Thread(target=self._work, name="container", daemon=True).start()

    def feed(self, data: bytes) -> Samples:
        """Give bytes; returns what the thread makes of them.

        Raises:
            AudioError: the stream cannot be decoded.
        """
        with self._changed:
            self._unread = io.BytesIO(data)
            return self._await_turn()

    def end(self) -> Samples:
        """Tell that there will be no more; returns the rest.

        Raises:
            AudioError: see ``feed``.
        """
        self.abandon()
        with self._changed:
            return self._await_turn()

    def abandon(self) -> None:
        """Tell that there will be no more and that nobody waits for the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _await_turn(self) -> Samples:
        self._hungry = False
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._hungry or self._done)
        decoded, self._decoded = self._decoded, []
        if not decoded and self._error is not None:
            raise self._error
        return np.concatenate(decoded) if decoded else _EMPTY

    # In the thread

    def read(self, size: int = -1, /) -> bytes:
        """What FFmpeg calls: at most ``size`` bytes, none only at the end."""
        with self._changed:
            while not (piece := self._unread.read(size)) and not self._closed:
                self._hungry = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._hungry or self._closed)
            return piece

    def _work(self) -> None:
        try:
            pieces = media.pieces(self, container=self._container, options=_LIVE_OPTIONS)
            for piece in pieces:
                self._fresh = self._fresh + len(piece) if self._decoded else len(piece)
                self._decoded.append(piece)
                if self._fresh > MAX_MESSAGE_S * SAMPLE_RATE_HZ:
                    raise AudioError(f"a message holds more than {MAX_MESSAGE_S:g} s of audio")
        except Exception as error:  # whatever it is, whoever waits has to be told
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()
