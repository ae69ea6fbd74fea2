"""The items of a conversation: whose text grows delta by delta, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from a2p_engine.types import Word
from streaming.dialects.realtime.wording import Texts, Transcript, Wording


@dataclass(kw_only=True, slots=True)
class Item:
    """A turn that becomes an item of the conversation.

    Attributes:
        item_id: its name.
        text: what its deltas have told, in a row.
        words: of the segments that have their final.
        previous_id: the item before it, once it is committed.
        committed: whether it was told to be complete.
        ended: whether its speech has ended.
        shown: whether the server has promised a text for it.
        cleared: the client wants none of it.
    """

    item_id: str
    text: str = ""
    words: tuple[Word, ...] = ()
    language: str = ""
    audio_s: float = 0.0
    previous_id: str | None = None
    committed: bool = False
    ended: bool = False
    shown: bool = False
    cleared: bool = False
    segment_id: int | None = None
    said: str = ""  # what the deltas have told of the segment

    def grow(self, segment_id: int, text: str) -> str:
        """Take the settled text of a segment; returns the new end of the item's.

        What was told stays, even if a segment should take it back.
        """
        if segment_id != self.segment_id:
            self.segment_id, self.said = segment_id, ""
        if not text.startswith(self.said):
            return ""
        delta = text[len(self.said) :]
        if delta and not self.said and self.text:
            delta = " " + delta
        self.said = text
        self.text += delta
        return delta


def words_between(words: Sequence[Word], start: int, end: int) -> tuple[Word, ...]:
    """The words at characters [start, end) of the text that they make up."""
    found, at = [], 0
    for index, word in enumerate(words):
        size = len(word.text if index else word.text.lstrip())
        if start <= at and at + size <= end:
            found.append(word)
        at += size
    return tuple(found)


class Book:
    """Names items, and tells them with what the client asked to know of them."""

    def __init__(self, say: Wording, new_id: Callable[[], str]) -> None:
        self.say = say
        self.logprobs = False
        self._new_id = new_id
        self._last_id: str | None = None

    def item(self) -> Item:
        """A new one."""
        return Item(item_id=self._new_id())

    def commit(self, item: Item) -> Texts:
        """Tell that an item's audio is complete, once."""
        if item.committed:
            return ()
        item.committed, item.previous_id = True, self._last_id
        self._last_id = item.item_id
        return self.say.committed(item.item_id, item.previous_id)

    def grow(self, item: Item, segment_id: int, text: str, words: Sequence[Word]) -> Texts:
        """Tell what a segment adds to an item's text, if it does."""
        before = len(item.said) if item.segment_id == segment_id else 0
        delta = item.grow(segment_id, text)
        if not delta:
            return ()
        new = words_between(words, before, len(text)) if self.logprobs else None
        return self.say.delta(item.item_id, delta, new)

    def complete(self, item: Item) -> Texts:
        """Tell an item's text as a whole."""
        transcript = Transcript(
            item_id=item.item_id,
            text=item.text,
            audio_s=item.audio_s,
            language=item.language,
            words=item.words if self.logprobs else None,
        )
        return self.say.completed(transcript, item.previous_id)
