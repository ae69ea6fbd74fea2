"""Hands changes of glossaries from the threads that make them to the event loops that wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from streaming.glossaries.records import Change, StoredGlossary

Callback = Callable[[Change], None]


@dataclass(eq=False, slots=True)
class _Subscription:
    glossary_id: int
    version: int  # that the subscriber knows or has been sent
    callback: Callback
    loop: asyncio.AbstractEventLoop
    active: bool = True

    def deliver(self, change: Change) -> None:
        """Hand over to the event loop, which may be closed by now."""
        self.version = change.glossary.version
        try:
            self.loop.call_soon_threadsafe(self._call, change)
        except RuntimeError:
            self.active = False

    def _call(self, change: Change) -> None:
        if self.active:
            self.callback(change)


class Feed:
    """Who waits for changes of which glossary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[int, list[_Subscription]] = {}

    def subscribe(self, stored: StoredGlossary, callback: Callback) -> Callable[[], None]:
        """Wait, on the running event loop, for changes since the version of ``stored``.

        Returns:
            What ends it; no call comes after it.
        """
        loop = asyncio.get_running_loop()
        subscription = _Subscription(stored.id, stored.version, callback, loop)
        with self._lock:
            self._subscriptions.setdefault(stored.id, []).append(subscription)
        return partial(self._unsubscribe, subscription)

    def publish(
        self,
        stored: StoredGlossary,
        change: Change | None,
        changes: Callable[[StoredGlossary, int], Change],
    ) -> None:
        """Bring the subscribers of a glossary up to its version; one call at a time.

        Args:
            stored: the glossary in its new version.
            change: what was done last, if known.
            changes: tells what has changed since a version, for those who have missed more.
        """
        with self._lock:
            subscribed = self._subscriptions.get(stored.id, ())
            behind = [each for each in subscribed if each.version < stored.version]
        for subscription in behind:
            if change is None or change.since != subscription.version:
                change = changes(stored, subscription.version)
            subscription.deliver(change)

    def _unsubscribe(self, subscription: _Subscription) -> None:
        subscription.active = False
        with self._lock:
            others = self._subscriptions.get(subscription.glossary_id, [])
            if subscription in others:
                others.remove(subscription)
            if not others:
                self._subscriptions.pop(subscription.glossary_id, None)
