"""Audio that may have to be sent again: a bounded window over the client's stream of bytes."""

from __future__ import annotations

from clients.audio import AudioFormat

# Largest binary frame: 2 s of 16 kHz int16, far below any server's limit on a message.
FRAME_BYTES = 64 * 1024


class Backlog:
    """The newest audio of a session, from the end of the last final to now.

    Positions are bytes since the client's first byte. ``start`` is the oldest byte kept, ``sent``
    the next one to send, ``end`` the next one to come; ``start <= sent <= end``.
    After a lost connection the server says where to go on; when it has lost the session, everything
    from ``start`` is sent again, so that a sentence it had heard but not finished is not lost.
    What exceeds the bound is dropped at the old end, and counts as lost only when it had never been
    sent.
    """

    def __init__(self, audio: AudioFormat, bound_s: float) -> None:
        """Keep at most ``bound_s`` seconds."""
        self._audio = audio
        self._bound = audio.bytes_of(bound_s)
        self._data = bytearray()
        self.start = 0
        self.sent = 0
        self.dropped_s = 0.0

    @property
    def end(self) -> int:
        """Position behind the newest byte."""
        return self.start + len(self._data)

    def append(self, data: bytes) -> None:
        """Take new audio, dropping the oldest when the bound is exceeded."""
        self._data += data
        excess = len(self._data) - self._bound
        if excess > 0:
            self._forget(self.start + self._whole_frames(excess))

    def next_frame(self) -> bytes:
        """The next bytes to send, empty when all is sent."""
        offset = self.sent - self.start
        frame = bytes(self._data[offset : offset + FRAME_BYTES])
        self.sent += len(frame)
        return frame

    def finish_until(self, time_s: float) -> None:
        """Forget audio before ``time_s``, which has had its final."""
        heard = min(self._audio.bytes_of(time_s), self.sent)
        self._forget(heard - heard % self._audio.frame_bytes)

    def rewind(self) -> float:
        """Prepare to send all that is kept again; gives the time of its first byte."""
        self.sent = self.start
        return self._audio.seconds_of(self.start)

    def skip_to(self, position: int) -> int:
        """Prepare to send from a position on; gives how many bytes from there are not kept."""
        self.sent = min(max(position, self.start), self.end)
        return max(0, self.start - position)

    def take_dropped_s(self) -> float:
        """Seconds lost since the last call."""
        dropped, self.dropped_s = self.dropped_s, 0.0
        return dropped

    def _forget(self, position: int) -> None:
        if position <= self.start:
            return
        self.dropped_s += self._audio.seconds_of(max(0, position - self.sent))
        del self._data[: position - self.start]
        self.start = position
        self.sent = max(self.sent, position)

    def _whole_frames(self, n_bytes: int) -> int:
        frame = self._audio.frame_bytes
        return -(-n_bytes // frame) * frame
