"""Which speech belongs to which item: turns that the server finds, or that the client commits.

Both take commits and clears as they come in, and the session's events as they are sent, which may
be later; a ``Flush`` of the session and its ``Flushed`` tie the two together.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from a2p_engine.types import SAMPLE_RATE_HZ
from streaming.commands import Discard, Flush
from streaming.dialects.base import Reaction
from streaming.dialects.realtime.items import Book, Item
from streaming.dialects.realtime.refusals import INVALID_REQUEST
from streaming.dialects.realtime.wording import Texts, Trouble
from streaming.events import Final, Partial, SpeechStarted, SpeechStopped

COMMIT_EMPTY = "input_audio_buffer_commit_empty"
MAX_ITEMS = 64  # speech that came to nothing is not told; more than this never waits for its text


class Turns(Protocol):
    """How items come about."""

    def commit(self, event_id: str | None, audio_s: float) -> Reaction:
        """The client ends a turn that has ``audio_s`` of audio."""
        ...

    def clear(self) -> Reaction:
        """The client takes back what it has not committed."""
        ...

    def started(self, event: SpeechStarted) -> Texts:
        """Someone speaks."""
        ...

    def stopped(self, event: SpeechStopped) -> Texts:
        """Nobody speaks any more."""
        ...

    def partial(self, event: Partial) -> Texts:
        """A hypothesis."""
        ...

    def final(self, event: Final) -> Texts:
        """A segment's text."""
        ...

    def failed(self, segment_id: int, trouble: Trouble) -> Texts:
        """A segment's text will not get any better."""
        ...

    def flushed(self) -> Texts:
        """Everything said before the oldest commit or clear has its text."""
        ...

    def end(self) -> Texts:
        """The session is over; what has text gets its item."""
        ...


@dataclass(kw_only=True, slots=True)
class _Asked:
    """A commit or clear that the session has not carried out yet.

    Attributes:
        answered: something was committed since.
    """

    event_id: str | None = None
    clear: bool = False
    answered: bool = False


class ServerTurns:
    """A segment is an item; the client may end it sooner.

    An item is committed once it is certain to get a text: what turns out to be no speech leaves no
    empty item behind.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._items: dict[int, Item] = {}  # by segment
        self._asked: deque[_Asked] = deque()

    def commit(self, event_id: str | None, audio_s: float) -> Reaction:
        """End the turn; whether there is one will be seen when the session has done so."""
        self._asked.append(_Asked(event_id=event_id))
        return Reaction((Flush(),))

    def clear(self) -> Reaction:
        """Forget the turn; earlier ones have ended, and keep their text."""
        self._asked.append(_Asked(clear=True))
        return Reaction((Discard(ended=False), Flush()), self._book.say.cleared())

    def started(self, event: SpeechStarted) -> Texts:
        """An item begins."""
        if len(self._items) >= MAX_ITEMS:
            del self._items[next(iter(self._items))]
        item = self._items[event.segment_id] = self._book.item()
        return self._book.say.speech_started(item.item_id, event.time_sample)

    def stopped(self, event: SpeechStopped) -> Texts:
        """An item ends."""
        item = self._item(event.segment_id)
        item.ended = True
        told = self._book.say.speech_stopped(item.item_id, event.time_sample)
        return told + self._commit(item)

    def partial(self, event: Partial) -> Texts:
        """What is settled of it is told."""
        item = self._item(event.segment_id)
        item.shown = True
        grown = self._book.grow(item, event.segment_id, event.committed, event.words)
        return grown + self._commit(item)

    def final(self, event: Final) -> Texts:
        """The item is complete; without text there is none, unless it was committed."""
        item = self._item(event.segment_id)
        item.shown = item.ended = True
        item.words, item.language = event.words, event.language
        item.audio_s = (event.end_sample - event.start_sample) / SAMPLE_RATE_HZ
        self._items = {id_: one for id_, one in self._items.items() if id_ > event.segment_id}
        taken_back = not event.text
        if taken_back and not item.committed:
            return ()
        told = self._commit(item, certain=True)
        told += self._book.grow(item, event.segment_id, event.text, event.words)
        return told + self._book.complete(item)

    def failed(self, segment_id: int, trouble: Trouble) -> Texts:
        """Told at once; what there is of a text follows."""
        return self._book.say.failed(self._item(segment_id).item_id, trouble)

    def flushed(self) -> Texts:
        """A commit that ended no turn was of an empty buffer."""
        asked = self._asked.popleft() if self._asked else _Asked(answered=True)
        if asked.answered or asked.clear:
            return ()
        return self._book.say.error(nothing_to_commit("no speech", asked.event_id))

    def end(self) -> Texts:
        """Every segment has had its final."""
        return ()

    def _item(self, segment_id: int) -> Item:
        if segment_id not in self._items:
            self._items[segment_id] = self._book.item()
        return self._items[segment_id]

    def _commit(self, item: Item, *, certain: bool = False) -> Texts:
        """Commit an item that has ended and will have a text.

        While a clear is under way nobody knows yet whether it is about this item.
        """
        clearing = any(asked.clear for asked in self._asked)
        if not certain and (clearing or not (item.ended and item.shown)):
            return ()
        for asked in self._asked:
            asked.answered = True
        return self._book.commit(item)


class ClientTurns:
    """The client's commits end items; one may have any number of segments, or none."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._items = deque([book.item()])  # all but the last wait for their text

    def commit(self, event_id: str | None, audio_s: float) -> Reaction:
        """End the item; what is said from now on belongs to the next one."""
        item = self._items[-1]
        item.audio_s = audio_s
        self._items.append(self._book.item())
        return Reaction((Flush(),), self._book.commit(item))

    def clear(self) -> Reaction:
        """Forget the item and begin another; committed ones keep their text."""
        self._items[-1].cleared = True
        self._items.append(self._book.item())
        return Reaction((Discard(), Flush()), self._book.say.cleared())

    def started(self, event: SpeechStarted) -> Texts:
        """Of no interest to a client that finds the turns by itself."""
        return ()

    def stopped(self, event: SpeechStopped) -> Texts:
        """Of no interest to a client that finds the turns by itself."""
        return ()

    def partial(self, event: Partial) -> Texts:
        """What is settled of it is told."""
        item = self._items[0]
        if item.cleared:
            return ()
        return self._book.grow(item, event.segment_id, event.committed, event.words)

    def final(self, event: Final) -> Texts:
        """The rest of a segment is told."""
        item = self._items[0]
        if item.cleared:
            return ()
        item.words += event.words
        item.language = item.language or event.language
        return self._book.grow(item, event.segment_id, event.text, event.words)

    def failed(self, segment_id: int, trouble: Trouble) -> Texts:
        """Told at once; what there is of a text follows."""
        item = self._items[0]
        return () if item.cleared else self._book.say.failed(item.item_id, trouble)

    def flushed(self) -> Texts:
        """The oldest item has all its text."""
        if len(self._items) < 2:
            return ()
        item = self._items.popleft()
        return () if item.cleared else self._book.complete(item)

    def end(self) -> Texts:
        """What was said last gets its item, though nobody has committed it."""
        told: Texts = ()
        while self._items:
            item = self._items.popleft()
            if not item.cleared and (item.text or item.committed):
                told += self._book.commit(item) + self._book.complete(item)
        self._items.append(self._book.item())
        return told


def nothing_to_commit(found: str, event_id: str | None) -> Trouble:
    """The error of a commit without speech; clients know its code and pass over it."""
    return Trouble(
        kind=INVALID_REQUEST,
        code=COMMIT_EMPTY,
        message=f"there is nothing to commit: {found} since the last commit",
        event_id=event_id,
    )
