"""Opus packets and growing containers become the same audio; what is hostile is a clear error."""

from __future__ import annotations

import gc
import io
import struct
import threading
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.errors import AudioError
from a2p_engine.types import Samples
from streaming.audio import codecs, media
from streaming.audio.codecs import ContainerDecoder, Decoder, OpusDecoder, container_of, decoder_for
from streaming.audio.pcm import AudioDecoder, AudioFormat

KINDS = {
    "wav": ("wav", "pcm_s16le", 16_000),
    "wav, mu-law": ("wav", "pcm_mulaw", 8_000),
    "flac": ("flac", "flac", 44_100),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "ogg, opus": ("ogg", "libopus", 48_000),
    "ogg, flac": ("ogg", "flac", 24_000),
    "webm": ("webm", "libopus", 48_000),
    "mp4": ("ipod", "aac", 44_100),
    "aac": ("adts", "aac", 48_000),
    "aiff": ("aiff", "pcm_s16be", 44_100),
    "caf": ("caf", "pcm_s16le", 48_000),
    "au": ("au", "pcm_s16be", 16_000),
}


def chirp(rate_hz: int, duration_s: float = 3.0) -> Samples:
    """A sweep from 200 Hz to 2 kHz, so that no two moments sound alike."""
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    phase = 2 * np.pi * (200 * time_s + 1800 / (2 * duration_s) * time_s**2)
    return (0.4 * np.sin(phase)).astype(np.float32)


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"}


def encode(kind: str, duration_s: float = 3.0, layout: str = "mono", **options: str) -> bytes:
    """A stream of the kind with the chirp in it."""
    container, codec, rate_hz = KINDS[kind]
    usual = {"mp4": FRAGMENTED, "ogg, opus": {"page_duration": "20000"}}
    options = options or usual.get(kind, {})
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout)
        planes = np.stack([chirp(rate_hz, duration_s)] * stream.codec_context.channels)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
        output.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def likeness(decoded: Samples, expected: Samples) -> float:
    """Greatest correlation at any shift of up to 0.1 s (codecs add some at the beginning)."""
    size = min(len(decoded), len(expected)) - 1_600
    wanted = expected[:size]
    found = [decoded[at : at + size] for at in range(1_600)]
    return max(float(np.corrcoef(piece, wanted)[0, 1]) for piece in found if len(piece) == size)


def whole(decoder: Decoder, *pieces: bytes) -> Samples:
    """Everything that a stream of pieces gives."""
    decoded = [decoder.decode(piece) for piece in pieces]
    decoder.check_complete()
    return np.concatenate([*decoded, decoder.finish()])


def cut(data: bytes, size: int) -> list[bytes]:
    """The data in pieces of a size."""
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stream_decodes_to_the_same_audio(kind: str) -> None:
    """Length and sound are those of the original, whatever the container, codec and rate."""
    decoded = whole(ContainerDecoder(), *cut(encode(kind), 400))
    assert decoded.dtype == np.float32 and decoded.ndim == 1
    assert abs(len(decoded) - 48_000) < 1_600
    assert likeness(decoded, chirp(16_000)) > 0.95


ENCODED = {kind: encode(kind, 0.4) for kind in KINDS}


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), cuts=st.lists(st.integers(0, 3000), max_size=30))
def test_cuts_anywhere_leave_no_trace(kind: str, cuts: list[int]) -> None:
    """A stream in pieces of any size, even none, sounds like the same file decoded at once."""
    data, pieces = ENCODED[kind], []
    for size in cuts:
        pieces.append(data[:size])
        data = data[size:]
    at_once = np.concatenate(list(media.decode(ENCODED[kind], 60)))
    in_pieces = whole(ContainerDecoder(), *pieces, data)
    # Files may tell in an index where they end, and the resampler hears the end coming.
    shared = min(len(in_pieces), len(at_once)) - 32
    assert abs(len(in_pieces) - len(at_once)) < 1_600
    np.testing.assert_array_equal(in_pieces[:shared], at_once[:shared])


@pytest.mark.parametrize("kind", ["ogg, opus", "webm", "mp3", "aac", "mp4"])
def test_live_streams_are_heard_while_they_come(kind: str) -> None:
    """From the beginning on, no more than half a second waits for what follows."""
    decoder, data, heard, size = ContainerDecoder(), encode(kind, 6.0), 0, 200
    for number, piece in enumerate(cut(data, size), 1):
        heard += len(decoder.decode(piece))
        assert number * size / len(data) * 6.0 - heard / 16_000 < 0.5


def test_stereo_is_mixed() -> None:
    """Two equal channels sound like one."""
    decoded = whole(ContainerDecoder(), encode("ogg, opus", layout="stereo"))
    assert likeness(decoded, chirp(16_000)) > 0.95


@pytest.mark.parametrize("head", [b"", b"a", b"<html>" * 9, bytes(12), b"#EXTM3U\nfile:///etc"])
def test_other_data_is_refused_by_its_first_bytes(head: bytes) -> None:
    """Neither text nor playlists nor raw audio ever reach FFmpeg; the error says what may."""
    with pytest.raises(AudioError, match=r"no known container.*containers: WAV.*WebM"):
        container_of(head)


def test_an_mp4_that_is_not_made_for_streaming_is_an_error() -> None:
    """Its index comes at the end, when it is too late."""
    with pytest.raises(AudioError, match="cannot be read as audio"):
        whole(ContainerDecoder(), *cut(encode("mp4", movflags="0"), 400))


def test_a_container_without_audio_is_an_error() -> None:
    """Pictures alone are not looked at."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
        output.mux([*stream.encode(picture), *stream.encode(None)])
    with pytest.raises(AudioError, match="holds no audio"):
        whole(ContainerDecoder(), file.getvalue())


@pytest.mark.parametrize(("channels", "accepted"), [(1, True), (8, True), (9, False), (29, False)])
def test_channels_are_mixed_up_to_a_number(channels: int, accepted: bool) -> None:
    """More would crash the process: PyAV reads planes that are not there."""
    header = struct.pack(">4s5I", b".snd", 24, 0xFFFFFFFF, 3, 16_000, channels)
    samples = np.full((3200, channels), 8192, ">i2")
    samples[:, 0] = 0
    data = header + samples.tobytes()
    if accepted:
        decoded = whole(ContainerDecoder(), data)
        np.testing.assert_allclose(decoded, 0.25 * (channels - 1) / channels, atol=1e-6)
        assert len(decoded) == 3200
    else:
        with pytest.raises(AudioError, match="over 8 channels"):
            whole(ContainerDecoder(), data)


def test_a_codec_that_nobody_knows_is_an_error() -> None:
    """Its name was damaged on the way."""
    data = encode("webm").replace(b"A_OPUS", b"A_OPUZ")
    with pytest.raises(AudioError, match="holds no audio"):
        whole(ContainerDecoder(), data)


def test_an_unforeseen_error_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not lost with the thread."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(media, "pieces", broken)
    with pytest.raises(RuntimeError, match="broken"):
        ContainerDecoder().decode(encode("webm"))


def test_what_comes_after_an_error_gives_the_error_again() -> None:
    """A stream that cannot be decoded stays one; nobody waits for its thread."""
    decoder = ContainerDecoder()
    for _ in range(2):
        with pytest.raises(AudioError, match="cannot be read as audio"):
            decoder.decode(b"fLaC" + bytes(100_000))


def test_less_than_a_header_is_no_audio_and_no_error() -> None:
    """A client may leave before it has said anything."""
    assert len(whole(ContainerDecoder(), b"Ogg")) == 0


def test_a_stream_that_never_gives_audio_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its headers would fill the memory: here an ID3 tag that says it has 256 MB."""
    monkeypatch.setattr(codecs, "MAX_FRUITLESS_BYTES", 1_000_000)
    decoder = ContainerDecoder()
    decoder.decode(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(500_000))
    with pytest.raises(AudioError, match="1500020 bytes in a row held no audio"):
        decoder.decode(bytes(1_000_010))


def flac_of_silence(duration_s: int) -> bytes:
    """Much audio in few bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=8_000, layout="mono")
        quiet = np.zeros((1, 8_000 * duration_s), np.int16)
        frame = av.AudioFrame.from_ndarray(quiet, "s16", "mono")
        frame.sample_rate = 8_000
        output.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def test_a_small_message_cannot_become_large_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of silence in few bytes are not decoded any further than the limit."""
    monkeypatch.setattr(codecs, "MAX_MESSAGE_S", 10)
    data = flac_of_silence(600)
    assert len(data) < 200 * 600  # 320 times smaller than the audio
    decoder = ContainerDecoder()
    tracemalloc.start()
    decoded = decoder.decode(data)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(decoded) < 11 * 16_000 and most_bytes < 4_000_000
    with pytest.raises(AudioError, match="more than 10 s of audio"):
        decoder.decode(b"")


def test_a_forgotten_decoder_leaves_no_thread() -> None:
    """A client that vanishes costs nothing for ever."""
    before = set(threading.enumerate())
    decoder = ContainerDecoder()
    decoder.decode(encode("webm")[:3000])
    (thread,) = set(threading.enumerate()) - before
    del decoder
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    at=st.floats(0, 1),
    noise=st.binary(max_size=60),
    keep=st.floats(0, 1),
    size=st.integers(10, 5000),
)
def test_damaged_streams_give_audio_or_an_audio_error(
    kind: str, at: float, noise: bytes, keep: float, size: int
) -> None:
    """Whatever is overwritten or cut, nothing else comes out."""
    data = bytearray(ENCODED[kind])
    begin = round(at * len(data))
    data[begin : begin + len(noise)] = noise
    try:
        decoded = whole(ContainerDecoder(), *cut(bytes(data[: round(keep * len(data))]), size))
    except AudioError:
        return
    assert np.isfinite(decoded).all()


def opus_packets(duration_s: float = 3.0, layout: str = "mono") -> list[bytes]:
    """The chirp in packets of 20 ms, as a browser makes them."""
    with av.open(io.BytesIO(encode("ogg, opus", duration_s, layout))) as file:
        return [bytes(packet) for packet in file.demux() if packet.size]


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_opus_packets_are_heard_at_once(layout: str) -> None:
    """Each message of 20 ms gives its audio, but for the resampler's few milliseconds."""
    decoder, heard = OpusDecoder(), 0
    packets = opus_packets(layout=layout)
    decoded = []
    for number, packet in enumerate(packets, 1):
        decoded.append(decoder.decode(packet))
        heard += len(decoded[-1])
        assert 0 <= number * 320 - heard < 64
    audio = np.concatenate([*decoded, decoder.finish()])
    assert len(audio) == len(packets) * 320
    assert likeness(audio, chirp(16_000)) > 0.95


def test_a_damaged_packet_costs_that_packet_and_no_time() -> None:
    """In its place there is silence; what follows is where it was."""
    packets = opus_packets()
    good = whole(OpusDecoder(), *packets)
    packets[50] = b"\xff" * 5
    damaged = whole(OpusDecoder(), *packets)
    assert len(damaged) == len(good)
    lost = slice(50 * 320 + 100, 51 * 320 - 100)
    assert np.abs(good[lost]).max() > 0.3 and np.abs(damaged[lost]).max() < 0.01
    assert np.abs(good - damaged)[53 * 320 :].max() < 0.05


def test_damage_before_the_first_packet_is_skipped() -> None:
    """How long it was is not known."""
    packets = opus_packets()
    assert len(whole(OpusDecoder(), b"\xff" * 5, b"", *packets)) == len(packets) * 320


def test_nothing_but_damage_is_an_error() -> None:
    """The error says what a message should be."""
    decoder = OpusDecoder()
    with pytest.raises(AudioError, match="250 messages in a row were no Opus packets"):
        for _ in range(250):
            decoder.decode(b"\xff" * 5)


def test_an_ogg_stream_is_told_from_packets() -> None:
    """Some clients call both the same; the stream then takes a thread."""
    data = encode("ogg, opus")
    decoder = OpusDecoder()
    assert not decoder.blocking
    streamed = whole(decoder, *cut(data, 400))
    assert decoder.blocking
    np.testing.assert_array_equal(streamed, whole(ContainerDecoder(), data))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_packets_give_finite_audio(packets: list[bytes]) -> None:
    """Random messages are noise at worst; none is longer than an Opus packet can be."""
    decoder = OpusDecoder()
    for packet in packets:
        decoded = decoder.decode(packet)
        assert np.isfinite(decoded).all() and len(decoded) <= 0.120 * 16_000 + 64
    assert np.isfinite(decoder.finish()).all()


def test_each_encoding_has_its_decoder() -> None:
    """PCM needs no thread; what was packed does."""
    assert isinstance(decoder_for(AudioFormat(encoding="opus")), OpusDecoder)
    assert isinstance(decoder_for(AudioFormat(encoding="container")), ContainerDecoder)
    assert isinstance(decoder_for(AudioFormat(encoding="mulaw")), AudioDecoder)
