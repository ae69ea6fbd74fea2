"""How much a client may use: token buckets, and what is built of them.

A token bucket (ITU-T I.371, the generic cell rate algorithm) holds ``capacity`` tokens, gains
``rate_per_s`` of them, and what is done costs some: bursts up to the capacity pass, in the long run
the rate holds. Nothing here sleeps, and whoever uses it brings the clock.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from streaming.errors import RateLimited, TooManyMessages

Clock = Callable[[], float]

MAX_PEERS = 10_000  # some megabytes; beyond, whoever was quiet longest is forgotten
PACE_BURST_S = 60.0  # audio taken at any speed, such as what a client kept while it was cut off
MESSAGE_BURST_S = 10.0
BYTES_BURST_S = 4.0
# Less than any codec packs into one message; what carries less is not there for its audio.
LEAST_AUDIO_S = 0.001
IPV6_NETWORK_BITS = 64  # one customer has as many addresses as that leaves


class TokenBucket:
    """Bursts up to ``capacity``, in the long run ``rate_per_s``."""

    def __init__(self, rate_per_s: float, capacity: float, clock: Clock = time.monotonic) -> None:
        self.rate_per_s = rate_per_s
        self.capacity = capacity
        self._clock = clock
        self._tokens = capacity
        self._at_s = clock()

    @property
    def tokens(self) -> float:
        """What there is; negative after more was spent."""
        now_s = self._clock()
        gained = max(now_s - self._at_s, 0.0) * self.rate_per_s
        self._tokens, self._at_s = min(self.capacity, self._tokens + gained), now_s
        return self._tokens

    def wait_s(self, amount: float = 1.0) -> float:
        """How long until ``amount`` is there; 0 when it is."""
        return max(0.0, (min(amount, self.capacity) - self.tokens) / self.rate_per_s)

    def take(self, amount: float = 1.0) -> float:
        """Take ``amount`` if it is there: 0, or how long until it is, with nothing taken."""
        wait_s = self.wait_s(amount)
        if not wait_s:
            self._tokens -= amount
        return wait_s

    def spend(self, amount: float) -> float:
        """Take ``amount`` in any case; returns how long to wait until the debt is paid, in s."""
        self._tokens = self.tokens - amount
        return max(0.0, -self._tokens / self.rate_per_s)


class FailureLimit:
    """Failed attempts per peer address, in bounded memory.

    Peers of one IPv6 /64 count as one. A success is never held against anybody's failures, so
    nobody is locked out by a neighbour behind the same address.
    """

    def __init__(
        self,
        *,
        per_minute: float = 10,
        burst: float = 20,
        max_peers: int = MAX_PEERS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._per_minute, self._burst = per_minute, burst
        self._max_peers = max_peers
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    @property
    def peers(self) -> int:
        """How many are remembered."""
        return len(self._buckets)

    def note(self, peer: str) -> None:
        """Count a failure.

        Raises:
            RateLimited: there were too many.
        """
        bucket = self._bucket(network_of(peer))
        if wait_s := bucket.take():
            raise RateLimited("too many failed attempts from this address", retry_after_s=wait_s)

    def _bucket(self, peer: str) -> TokenBucket:
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = TokenBucket(self._per_minute / 60, self._burst, self._clock)
            self._buckets[peer] = bucket
            if len(self._buckets) > self._max_peers:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(peer)
        return bucket


def network_of(peer: str) -> str:
    """What counts as one peer: an IPv4 address, an IPv6 network, or whatever else was given."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), IPV6_NETWORK_BITS), strict=False))
    return peer


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowLimits:
    """How fast one connection may send.

    Attributes:
        max_pace: audio, in multiples of real time; what is faster has to wait.
        bytes_per_s: of messages of any kind; what is faster has to wait.
        messages_per_s: of messages without audio to speak of; what is faster is an error.
    """

    max_pace: float = 10.0
    bytes_per_s: float = 8 * 1024 * 1024
    messages_per_s: float = 100.0


class Flow:
    """How fast one connection sends.

    Audio and bytes are held to their rates by not reading, which a client that sends a recording as
    fast as it can does not even notice. Floods of messages that carry nothing would cost the
    server more than the client even so, and end the connection.
    """

    def __init__(self, limits: FlowLimits, clock: Clock = time.monotonic) -> None:
        self._limits = limits
        self._pace = TokenBucket(limits.max_pace, PACE_BURST_S, clock)
        self._bytes = _bucket(limits.bytes_per_s, BYTES_BURST_S, clock)
        self._messages = _bucket(limits.messages_per_s, MESSAGE_BURST_S, clock)

    def take(self, size_bytes: int, audio_s: float = 0.0) -> float:
        """Count a message; returns how long to wait before the next one is read, in s.

        Raises:
            TooManyMessages: it carries next to no audio, and so did too many before it.
        """
        if audio_s < LEAST_AUDIO_S and self._messages.take():
            rate = f"{self._limits.messages_per_s:g} a second"
            raise TooManyMessages(f"too many messages with less than 1 ms of audio: over {rate}")
        return max(self._pace.spend(audio_s), self._bytes.spend(size_bytes))


def _bucket(rate_per_s: float, burst_s: float, clock: Clock) -> TokenBucket:
    return TokenBucket(rate_per_s, rate_per_s * burst_s, clock)
