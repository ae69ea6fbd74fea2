"""OpenAI's Realtime protocol for transcription, in three wordings; see docs/compatibility.md."""

from streaming.dialects.realtime.dialect import Realtime

__all__ = ["Realtime"]
