"""What models do, counted: how often audio is encoded and text is read or written per tick."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Trace:
    """What a model has done so far; two of them subtracted tell what a tick did.

    Attributes:
        encodes: windows that went through the encoder.
        encoded_frames: frames that came out.
        prefilled_tokens: positions read before decoding: text and audio.
        reused_tokens: positions that a kept past saved from being read again.
        decoded_tokens: positions of tokens that the model wrote and read again.
        scored_tokens: positions read to learn the probabilities of what was written.
        forwards: passes through the language model, whatever the number of rows.
    """

    encodes: int = 0
    encoded_frames: int = 0
    prefilled_tokens: int = 0
    reused_tokens: int = 0
    decoded_tokens: int = 0
    scored_tokens: int = 0
    forwards: int = 0

    def copy(self) -> Trace:
        """What it says now."""
        return Trace(**asdict(self))

    def __sub__(self, before: Trace) -> Trace:
        earlier = asdict(before)
        return Trace(**{name: value - earlier[name] for name, value in asdict(self).items()})
