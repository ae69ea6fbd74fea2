"""Everything that can go wrong in a client, as one tree.

ClientError
├── AudioError          audio cannot be read, or its format is not one the protocol knows
│   └── MicrophoneError no PortAudio, no microphone, or the microphone cannot be opened
├── ConnectError        the server cannot be reached, or stayed away longer than the retries last
├── SessionRefused      the server answered the start message with a fatal error
│   └── ServerFull      no room right now; ``retry_after_s`` says when to ask again
└── SessionFailed       the server ended a running session and asking again would not help

Each text is one line that a user can act on.
"""

from __future__ import annotations


class ClientError(Exception):
    """Root of every error a client raises on purpose."""


class AudioError(ClientError):
    """Audio cannot be read, or its format is not one the protocol knows."""


class MicrophoneError(AudioError):
    """There is no PortAudio, no microphone, or the microphone cannot be opened."""


class ConnectError(ClientError):
    """The server cannot be reached, or stayed away longer than the retries last."""


class SessionRefused(ClientError):
    """The server answered the start message with a fatal error.

    Attributes:
        code: the protocol's error code, such as ``bad_start``.
        close_code: the websocket close code that followed, such as 1008.
        retry_after_s: when the server suggests to ask again, None when it did not say.
    """

    def __init__(
        self, message: str, *, code: str, close_code: int, retry_after_s: float | None = None
    ) -> None:
        """Keep the server's words, its codes and its wish."""
        super().__init__(message)
        self.code = code
        self.close_code = close_code
        self.retry_after_s = retry_after_s


class ServerFull(SessionRefused):
    """The server has no room right now."""


class SessionFailed(ClientError):
    """The server ended a running session and asking again would not help.

    Attributes:
        close_code: the websocket close code, such as 1008.
    """

    def __init__(self, message: str, *, close_code: int) -> None:
        """Keep the reason and the close code."""
        super().__init__(message)
        self.close_code = close_code
