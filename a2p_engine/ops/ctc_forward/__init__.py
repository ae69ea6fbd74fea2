"""Log-probability of symbol strings in stretches of a CTC output, over all alignments.

The forward algorithm of Graves et al. 2006, "Connectionist Temporal Classification", section 4.1,
in the log domain, for many short strings, each in a stretch of its own.
"""

from __future__ import annotations

from a2p_engine.ops.ctc_forward.compiled import forward
from a2p_engine.ops.ctc_forward.reference import forward as forward_reference

__all__ = ["forward", "forward_reference"]
