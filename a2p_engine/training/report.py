"""What data directories hold, for a model card."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from a2p_engine.training.shards import read_shards
from a2p_engine.training.texts import words_of


@dataclass(frozen=True, kw_only=True, slots=True)
class DataReport:
    """Amounts of speech.

    Attributes:
        hours: of speech.
        utterances: number of them.
        voices: voice -> hours.
        running_words: words said.
        distinct_words: different ones among them.
    """

    hours: float
    utterances: int
    voices: dict[str, float]
    running_words: int
    distinct_words: int


def report_data(directories: Iterable[Path]) -> DataReport:
    """Add up the complete shards of some directories.

    Raises:
        TrainingError: a directory holds none.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    words, utterances = Counter[str](), 0
    for directory in directories:
        for _, index in read_shards(directory):
            utterances += len(index)
            for utterance in index:
                seconds[utterance.voice] += utterance.frames / utterance.frame_rate_hz
                words.update(words_of(utterance.text))
    hours = {voice: count / 3600 for voice, count in sorted(seconds.items())}
    return DataReport(
        hours=sum(hours.values()),
        utterances=utterances,
        voices=hours,
        running_words=words.total(),
        distinct_words=len(words),
    )
