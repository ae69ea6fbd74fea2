"""Make ward_round.flac, the recording of the demo.

Run it with: python examples/data/make_recording.py

Two Kokoro-82M voices that the retriever was never trained on read a few sentences. Drug names are
given as a pharmacist says them, not as the glossary's phonemizer would guess them, so that the
demonstration is not easier than life. Needs ``a2p models pull kokoro-82m`` once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from hibari.g2p import G2P

from a2p_engine import models
from a2p_engine.training.voices import kokoro_voices

PAUSE_S = 0.9
SCRIPT = [
    ("bf_emma", "Good morning. Bed four came in with a racing heart, so we switched her from "
                "[warfarin](/wˈɔːfəɹɪn/) to [apixaban](/əpˈɪksəbˌæn/)."),
    ("am_michael", "Her blood sugar is high as well. I would add "
                   "[empagliflozin](/ˌɛmpəɡlɪflˈOzɪn/) and keep the "
                   "[rosuvastatin](/ɹOsˌuvəstˈætɪn/) at night."),
    ("bf_emma", "Fine. And the [levetiracetam](/lˌɛvətɪɹˈæsɪtˌæm/) stays as it is, "
                "because she has not had a seizure since March."),
]  # fmt: skip


def main() -> None:
    """Speak the script and write it as 16 kHz mono FLAC."""
    names = sorted({name for name, _ in SCRIPT})
    voices = {v.name: v for v in kokoro_voices(models.find("kokoro-82m"), names)}
    g2p = G2P()
    pause = np.zeros(int(PAUSE_S * 16_000), np.float32)
    parts = [pause]
    for number, (name, text) in enumerate(SCRIPT):
        spoken = voices[name].speak(g2p(text), np.random.default_rng(number))
        parts += [0.7 * spoken / np.abs(spoken).max(), pause]
    room = np.random.default_rng(7).normal(0, 0.001, sum(map(len, parts)))
    audio = np.concatenate(parts) + room.astype(np.float32)
    soundfile.write(Path(__file__).with_name("ward_round.flac"), audio, 16_000, subtype="PCM_16")


if __name__ == "__main__":
    main()
