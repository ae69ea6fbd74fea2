"""How often terms are said in a session, and what that does to their probability.

Calibration hears a term every other second; a meeting may go on for minutes without any. The same
evidence then speaks for a term less often: its odds go with the rate at which terms are said (a
shift of the prior, Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier
to new a priori probabilities"). As there, the rate is learnt from the probabilities themselves.
"""

from __future__ import annotations

# What was heard counts half after so long: a talk that comes to its subject needs its terms soon.
HALF_LIFE_S = 120.0


class TermRate:
    """The rate of one session, as a share of the rate in calibration.

    Before anything is heard it has an exponential distribution whose mean is calibration's; terms
    come as a Poisson process, so that the expected rate is (1 + terms) / (1 / mean + seconds).
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
        return min((1 + self._terms) / (1 + self._calibrated * self._seconds), 1.0)

    def hear(self, terms: float, seconds: float) -> None:
        """Take in a segment.

        Args:
            terms: the sum of all probabilities, which is how many terms are expected in it.
            seconds: of speech.
        """
        fade = 0.5 ** (seconds / HALF_LIFE_S)
        self._terms = fade * self._terms + terms
        self._seconds = fade * self._seconds + seconds
