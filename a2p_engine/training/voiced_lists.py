"""LibriSpeech's biasing lists as recordings: transcripts spoken by voices held out of training.

The lists (Le et al. 2021, "Contextualized Streaming End-to-End Speech Recognition with Trie-Based
Deep Biasing and Shallow Fusion") are lines of tab-separated id, transcript, the transcript's rare
words and a list of distractors, the last two in JSON. The recordings themselves are not part of
them, so a figure on this speech is not a figure on LibriSpeech, and has to say so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from a2p_engine.errors import TrainingError
from a2p_engine.training.texts import read_lines
from a2p_engine.training.voices import HELD_OUT_VOICES, KokoroVoice, kokoro_voices
from a2p_engine.training.workers import run_side_by_side
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

_MOST_SYMBOLS = 400  # Kokoro reads at most 509 at once


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedUtterance:
    """A line of a biasing list.

    Attributes:
        id: as in LibriSpeech.
        text: transcript, not in capitals throughout, which would be read letter by letter.
        rare: its rare words, in their order.
        distractors: words of the list that nobody says.
    """

    id: str
    text: str
    rare: tuple[str, ...]
    distractors: tuple[str, ...]


def read_lists(path: Path) -> list[ListedUtterance]:
    """Read a file like test-clean.biasing_100.tsv.

    Raises:
        TrainingError: the file cannot be read, is empty or has a line of another form.
    """
    return [_parse(line, f"{path}, line {n}") for n, line in enumerate(read_lines(path), 1)]


def _parse(line: str, place: str) -> ListedUtterance:
    try:
        identifier, text, *columns = line.split("\t")
        rare, distractors = (_words(column) for column in [*columns, "[]"][:2])
    except ValueError as error:
        raise TrainingError(
            f"{place}: expected tab-separated id, text, rare words and distractors, "
            "the words as lists in JSON"
        ) from error
    return ListedUtterance(
        id=identifier,
        text=text.lower() if text.isupper() else text,
        rare=tuple(dict.fromkeys(rare)),
        distractors=distractors,
    )


def _words(column: str) -> tuple[str, ...]:
    words = json.loads(column)
    if not isinstance(words, list):
        raise ValueError("no list")
    return tuple(map(str, words))


def voice_lists(
    lists: Path,
    *,
    out: Path,
    voice_model: Path,
    utterances: int | None = None,
    voices: Sequence[str] | None = None,
    seed: int = 1,
    processes: int = 2,
) -> int:
    """Speak transcripts of a biasing list; goes on where it was left.

    Args:
        lists: file of utterances.
        out: directory for flac files and manifest.jsonl, whose terms are the rare words.
        voice_model: directory of Kokoro's files.
        utterances: how many, drawn by the seed; a larger number adds to a smaller. None means all.
        voices: names of Kokoro voices; None means those held out of training.
        seed: of the draw, the voice of each utterance and its pace.
        processes: how many to run side by side, one thread each.

    Returns:
        Number of recordings made by this call.

    Raises:
        TrainingError: a file is missing or malformed.
    """
    listed = read_lists(lists)
    order = np.random.default_rng(seed).permutation(len(listed))[:utterances]
    chosen = [(int(i), listed[i]) for i in order]
    (out / "audio").mkdir(parents=True, exist_ok=True)
    missing = [(i, u) for i, u in chosen if not _audio(out, u).is_file()]
    names = tuple(voices) if voices else tuple(sorted(HELD_OUT_VOICES))
    run_side_by_side(
        _run_worker,
        missing,
        start=_start_worker,
        arguments=(out, voice_model, names, seed),
        processes=processes,
        unit="recording",
    )
    records = (
        {
            "id": u.id,
            "audio": str(_audio(out, u).relative_to(out)),
            "text": u.text,
            "terms": list(u.rare),
        }
        for _, u in chosen
    )
    partial = out / "manifest.partial"
    partial.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")
    os.replace(partial, out / "manifest.jsonl")
    return len(missing)


def _audio(out: Path, utterance: ListedUtterance) -> Path:
    return out / "audio" / f"{utterance.id}.flac"


class _Speaker:
    """Speaks numbered utterances, one voice each."""

    def __init__(self, voices: Sequence[KokoroVoice], seed: int) -> None:
        from hibari import Hibari

        self._voices = voices
        self._seed = seed
        self._phonemize = Hibari().phonemize

    def speak(self, number: int, text: str) -> Samples:
        """float32 [n] at 16 kHz; the same number always in the same voice."""
        rng = np.random.default_rng([self._seed, number])
        voice = self._voices[int(rng.integers(len(self._voices)))]
        phonemes = " ".join(self._phonemize(text))
        return np.concatenate([voice.speak(part, rng) for part in _parts(phonemes)])


def _parts(phonemes: str) -> list[str]:
    """A long phoneme string cut between words."""
    count = -(-len(phonemes) // _MOST_SYMBOLS)
    words = phonemes.split(" ")
    parts: list[str] = []
    for word in words:
        if not parts or len(parts[-1]) > len(phonemes) / count:
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    return parts


_speaker: _Speaker | None = None  # of this worker process
_out = Path()


def _start_worker(out: Path, voice_model: Path, names: Sequence[str], seed: int) -> None:
    global _speaker, _out
    _speaker, _out = _Speaker(kokoro_voices(voice_model, names), seed), out


def _run_worker(work: tuple[int, ListedUtterance]) -> None:
    import soundfile

    if _speaker is None:
        raise TrainingError("the worker was not started")
    number, utterance = work
    samples = _speaker.speak(number, utterance.text)
    path = _audio(_out, utterance)
    partial = path.with_suffix(".partial")
    soundfile.write(partial, samples, SAMPLE_RATE_HZ, format="FLAC")
    os.replace(partial, path)
