"""Every registered detector keeps the contract; the neural one tells speech from other sound."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from a2p_engine.types import Samples
from streaming.demo import RECORDING
from streaming.errors import BadOption
from streaming.vad import DETECTORS, create
from streaming.vad.silero import MUTED_FRAMES, SileroDetector
from tests.streaming.signals import tone


def probabilities(name: str, audio: Samples) -> list[float]:
    """What a fresh detector makes of whole frames of audio."""
    detector = create(name)
    return detector(frames_of(audio, detector.frame_samples))


def frames_of(audio: Samples, size: int) -> Samples:
    """Whole frames of audio, [n, size]."""
    return audio[: len(audio) // size * size].reshape(-1, size)


def noise(duration_s: float) -> Samples:
    """White noise at -20 dBFS."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(round(duration_s * 16_000))).astype(np.float32)


@pytest.mark.parametrize("name", DETECTORS)
def test_silence_is_not_speech(name: str) -> None:
    """Digital silence stays far below the threshold."""
    values = probabilities(name, np.zeros(16_000, np.float32))
    assert max(values) < 0.3 and min(values) >= 0.0


@pytest.mark.parametrize("name", DETECTORS)
def test_full_scale_audio_is_taken(name: str) -> None:
    """The loudest samples there are give a probability like any other."""
    loud = np.tile(np.float32([1.0, -1.0]), 8000)
    assert all(0.0 <= value <= 1.0 for value in probabilities(name, loud))


@pytest.mark.parametrize("name", DETECTORS)
def test_reset_forgets(name: str) -> None:
    """After a reset the same audio gives the same probabilities."""
    detector = create(name)
    frames = frames_of(noise(0.5), detector.frame_samples)
    first = detector(frames)
    detector.reset()
    assert detector(frames) == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_frames_may_come_in_any_number_of_calls(name: str) -> None:
    """With speech, pauses and mutes among them."""
    zeros = np.zeros(30_000, np.float32)
    audio = np.concatenate([recorded(), zeros, 0.01 * noise(0.3), zeros[:1000], recorded()])
    detector = create(name)
    frames = frames_of(audio, detector.frame_samples)
    pieces = np.split(frames, [1, 2, 5, 5, 40, 41, 300])
    assert [value for piece in pieces for value in detector(piece)] == probabilities(name, audio)


def test_silero_is_not_fooled_by_noise_or_a_tone() -> None:
    """A quarter of a minute of each stays below the threshold throughout."""
    assert max(probabilities("silero", noise(15))) < 0.5
    assert max(probabilities("silero", tone(15))) < 0.5


def recorded() -> Samples:
    """Real frames with speech and pauses."""
    audio, _ = soundfile.read(RECORDING.audio, dtype="float32")
    return np.asarray(audio[: 8 * 16_000], np.float32)


def test_silero_hears_speech_and_its_pauses() -> None:
    """Most of a reading is speech, the second before it is not."""
    values = probabilities("silero", np.concatenate([noise(1) * 0.005, recorded()]))
    assert max(values[:30]) < 0.3
    assert 0.5 < np.mean(np.array(values[31:]) > 0.5) < 0.98


def test_a_muted_microphone_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second of zeros the network does not run any more."""
    detector = SileroDetector()
    ran = []
    network = detector._network
    counted = SimpleNamespace(run=lambda *given: ran.append(1) or network.run(*given))
    monkeypatch.setattr(detector, "_network", counted)
    zeros = np.zeros((1, detector.frame_samples), np.float32)
    assert not detector.trivial(zeros)
    assert max(detector(zeros)[0] for _ in range(1000)) < 0.3
    assert len(ran) == MUTED_FRAMES - 1
    assert detector.trivial(zeros) and not detector.trivial(zeros + 1e-6)


def test_speech_after_the_mute_is_heard_as_by_a_fresh_detector() -> None:
    """Nothing of what was before the mute plays a part, and nothing of it is lost."""
    speech = recorded()
    speech = speech[: len(speech) // 512 * 512]
    before = np.concatenate([speech, np.zeros(512 * (MUTED_FRAMES + 5), np.float32), speech])
    fresh = probabilities("silero", speech)
    assert probabilities("silero", before)[-len(fresh) :] == fresh


def test_detectors_share_a_network_but_no_state() -> None:
    """Two that hear different audio in turn say what each says alone."""
    frames = recorded()[: 100 * 512].reshape(100, 512)
    one, other = SileroDetector(), SileroDetector()
    in_turn = [(one(frame[None]), other(-frame[None, ::-1])) for frame in frames]
    assert [value for (value,), _ in in_turn] == probabilities("silero", frames.ravel())


def test_energy_follows_the_level() -> None:
    """From -50 to -30 dBFS the value rises from 0 to 1."""
    levels_dbfs = (-60, -50, -40, -30, -20)
    frames = np.array([np.full(320, 10 ** (level / 20)) for level in levels_dbfs], np.float32)
    assert create("energy")(frames) == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-3)


def test_an_unknown_detector_is_named() -> None:
    """The error lists what there is."""
    with pytest.raises(BadOption, match="unknown vad 'x'; accepted are silero, webrtc, energy"):
        create("x")
