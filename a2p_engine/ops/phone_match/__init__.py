"""Best alignment of many short phoneme strings to a stream of frames, one frame at a time.

A pronunciation is matched against any stretch of audio (free start, free end) by dynamic
programming over its phonemes. At frame t, with c[s] the cost of hearing symbol s there and D[i]
the least cost of a path that has reached phoneme i:

    D[i] = min( D[i]   + min(c[phone_i], c[blank] + linger),   phone_i goes on, or a gap follows it
                D[i-1] + c[phone_i],                            the next phoneme begins
                D[i-2] + c[phone_i] + deletion )                one phoneme was swallowed

with D[-1] = 0 at every frame. A blank is not a state of its own: CTC's blank between two phonemes
is the second half of the first line. The least D at the last phoneme over all frames is the
pronunciation's cost; the frame at which that path began travels with it.

Symbol 0 is the blank. ``advance`` updates its state arrays in place and allocates nothing.
"""

from __future__ import annotations

from a2p_engine.ops.phone_match.compiled import advance
from a2p_engine.ops.phone_match.reference import LANES
from a2p_engine.ops.phone_match.reference import advance as advance_reference

__all__ = ["LANES", "advance", "advance_reference"]
