"""How often terms are said in a session, and what that does to their probability.

Calibration hears a term every three seconds; a meeting may go on for minutes without any. The same
evidence then speaks for a term less often: its odds go with the rate at which terms are said (a
shift of the prior, Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier
to new a priori probabilities"). As there, the rate is learnt from the probabilities themselves.
"""

from __future__ import annotations

import numpy as np

from a2p_engine.retriever.evidence import Evidence

# What was heard counts half after so long: a talk that comes to its subject needs its terms soon.
HALF_LIFE_S = 120.0
# Shape of the rate's distribution before anything is heard, as in Jeffreys' prior of a Poisson
# process; its mean is calibration's rate.
SHAPE = 0.5


class TermRate:
    """The rate of one session, as a share of the rate in calibration.

    Terms come as a Poisson process, whose rate has a gamma distribution: it is expected to be
    (``SHAPE`` + terms) / (``SHAPE`` / mean + seconds).
    """

    def __init__(self, calibrated: float) -> None:
        """Nothing was heard yet.

        Args:
            calibrated: terms a second of speech in calibration.
        """
        self._calibrated = calibrated
        self._terms = 0.0
        self._seconds = 0.0

    @property
    def share(self) -> float:
        """Expected rate over that in calibration, at most 1."""
        return min((SHAPE + self._terms) / (SHAPE + self._calibrated * self._seconds), 1.0)

    def hear(self, terms: float, seconds: float) -> None:
        """Take in a segment.

        Args:
            terms: how many are expected in it, see ``expected_terms``.
            seconds: of speech.
        """
        fade = 0.5 ** (seconds / HALF_LIFE_S)
        self._terms = fade * self._terms + terms
        self._seconds = fade * self._seconds + seconds


def expected_terms(found: Evidence) -> float:
    """How many places are expected to hold a term, each of them one at most."""
    shared = np.minimum(found.end[:, None], found.end) - np.maximum(
        found.start[:, None], found.start
    )
    size = np.maximum(found.end - found.start, 1)[:, None]
    there = np.clip(shared / size, 0, 1) @ found.probability
    return float((found.probability / np.maximum(there, 1)).sum())
