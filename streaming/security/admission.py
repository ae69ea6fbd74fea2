"""Admits sessions: so many in all, and for each client what its key allows.

One ``Ticket`` is the right to one session. It knows how long that may last and how much audio
it may send, and takes notice when its key is disabled.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NoReturn

from streaming.errors import RateLimited, ServerFull, SessionTooLong
from streaming.security.auth import Principal
from streaming.security.keys import KeyLimits
from streaming.security.limits import MAX_PEERS, Clock, TokenBucket, network_of

RECHECK_S = 10.0  # how long a session may outlive its key
RETRY_S = 5.0  # when another session of a client may have ended; nobody knows


class _Account:
    """What one client has used, and how much of it is left.

    Attributes:
        sessions: open at present.
    """

    def __init__(self, limits: KeyLimits, clock: Clock) -> None:
        self.sessions = 0
        self._clock = clock
        self.adopt(limits)

    def adopt(self, limits: KeyLimits) -> None:
        """Let other limits hold from now on."""
        self.limits = limits
        self._opens = self._bucket(limits.sessions_per_minute, 60)
        self._audio = self._bucket(limits.audio_s_per_hour, 3600)

    def open(self) -> None:
        """Count a session; raises ``RateLimited`` when none is left."""
        limits = self.limits
        if limits.max_sessions is not None and self.sessions >= limits.max_sessions:
            text = f"all {limits.max_sessions} sessions of this key are open; try again"
            raise RateLimited(text, retry_after_s=RETRY_S)
        if self._audio is not None and self._audio.tokens <= 0:
            self._no_more_audio(self._audio.wait_s())
        if self._opens is not None and (wait_s := self._opens.take()):
            often = f"{limits.sessions_per_minute:g} new sessions a minute"
            raise RateLimited(f"the limit of {often} is reached", retry_after_s=wait_s)
        self.sessions += 1

    def hear(self, audio_s: float) -> None:
        """Count audio; raises ``RateLimited`` when none was left for it."""
        if self._audio is not None and (wait_s := self._audio.spend(audio_s)):
            self._no_more_audio(wait_s)

    def _no_more_audio(self, wait_s: float) -> NoReturn:
        hourly = f"{self.limits.audio_s_per_hour:g} s of audio an hour"
        raise RateLimited(f"the limit of {hourly} is used up", retry_after_s=wait_s)

    def _bucket(self, amount: float | None, period_s: float) -> TokenBucket | None:
        return None if amount is None else TokenBucket(amount / period_s, amount, self._clock)


class Ticket:
    """The right to one session, until it is closed; also a context manager.

    Attributes:
        principal: whose session it is.
        max_session_s: how long the session may last.
    """

    def __init__(
        self, admission: Admission, principal: Principal, account: _Account, max_session_s: float
    ) -> None:
        self.principal = principal
        self.max_session_s = max_session_s
        self._admission = admission
        self._account = account
        self._since_s = admission.clock()
        self._closed = False

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hear(self, audio_s: float) -> None:
        """Count audio.

        Raises:
            RateLimited: the client has had its audio for now.
        """
        self._account.hear(audio_s)

    def check(self) -> None:
        """Check that the session may go on.

        Raises:
            SessionTooLong: it has lasted long enough.
            Unauthorised: the key is not valid any more.
        """
        if self._admission.clock() - self._since_s >= self.max_session_s:
            raise SessionTooLong(f"a session lasts at most {self.max_session_s:g} s")
        self._admission.recheck(self.principal)

    async def expired(self) -> NoReturn:
        """Wait until the session may not go on.

        Raises:
            SessionTooLong: see ``check``.
            Unauthorised: see ``check``.
        """
        while True:
            self.check()
            left_s = self._since_s + self.max_session_s - self._admission.clock()
            await asyncio.sleep(min(RECHECK_S, max(left_s, 0.0)))

    def close(self) -> None:
        """Give the place back, once."""
        if not self._closed:
            self._closed = True
            self._account.sessions -= 1
            self._admission.open -= 1


class Admission:
    """Admits sessions: so many in all, and for each client what its key allows.

    Attributes:
        open: tickets that are not closed.
        max_sessions: most of them.
        clock: monotonic, in seconds.
        recheck: raises ``Unauthorised`` for a principal whose key is not valid any more.
    """

    def __init__(
        self,
        *,
        max_sessions: int,
        max_session_s: float,
        recheck: Callable[[Principal], None] = lambda principal: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.open = 0
        self.max_sessions = max_sessions
        self.clock = clock
        self.recheck = recheck
        self._max_session_s = max_session_s
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def admit(self, principal: Principal, peer: str = "") -> Ticket:
        """Take a session in; closing the ticket gives its place back.

        Args:
            principal: whose session it is; without keys all are one, and count by address.
            peer: the client's address.

        Raises:
            Forbidden: the key is not for captions.
            ServerFull: all places are taken.
            RateLimited: the client's own are, or it comes too often, or has had its audio.
        """
        principal.require("captions")
        if self.open >= self.max_sessions:
            raise ServerFull(f"all {self.max_sessions} sessions are taken; try again")
        account = self._account(principal, peer)
        account.open()
        self.open += 1
        longest_s = account.limits.max_session_s or self._max_session_s
        return Ticket(self, principal, account, min(longest_s, self._max_session_s))

    def _account(self, principal: Principal, peer: str) -> _Account:
        name = f"peer {network_of(peer)}" if principal.key_id is None else principal.key_id
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account(principal.limits, self.clock)
            self._forget_one()
        elif account.limits != principal.limits:  # the key file has changed
            account.adopt(principal.limits)
        self._accounts.move_to_end(name)
        return account

    def _forget_one(self) -> None:
        if len(self._accounts) > MAX_PEERS:
            idle = next((name for name, item in self._accounts.items() if not item.sessions), None)
            if idle is not None:
                del self._accounts[idle]
