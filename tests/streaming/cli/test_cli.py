"""The command line: help everywhere, one clear line for each mistake, results to work with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import typer

from streaming import server
from streaming.cli import app, common, main
from streaming.settings import ServerSettings
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone

LIGHT_IMPORTS = {"numpy", "torch", "pydantic", "soundfile", "websockets", "transformers"}


def _commands() -> Iterator[tuple[str, ...]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*path, name))

    return walk(typer.main.get_command(app), ())


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two stretches of what the energy detector takes for speech, 48 kHz stereo."""
    import numpy as np
    import soxr

    mono = np.concatenate([silence(0.5), tone(1.0), silence(1.2), tone(1.0), silence(1.0)])
    audio = soxr.resample(mono, 16_000, 48_000)
    path = tmp_path / "two tones.wav"
    soundfile.write(path, np.stack([audio, audio], axis=1), 48_000)
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Commands load this engine instead of a model."""
    fake = FakeEngine()
    monkeypatch.setattr(common, "load_engine", lambda *_: fake)
    return fake


@pytest.fixture
def glossary(tmp_path: Path) -> Path:
    """A glossary of two terms."""
    path = tmp_path / "terms.txt"
    path.write_text("apixaban\nrosuvastatin\n")
    return path


@pytest.fixture
def url() -> Iterator[str]:
    """A server in a thread that knows the glossary ``demo``."""
    ready: threading.Event = threading.Event()
    box: dict[str, Any] = {}

    async def run() -> None:
        async with server.running(ServerSettings(port=0), FakeEngine()) as running:
            box["url"], box["loop"] = running.ws_url, asyncio.get_running_loop()
            box["stop"] = asyncio.Event()
            ready.set()
            await box["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    yield box["url"]
    box["loop"].call_soon_threadsafe(box["stop"].set)
    thread.join()


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """Run a command that must fail with one line on standard error, and return that line."""
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err.strip()


@pytest.mark.parametrize("path", list(_commands()), ids=" ".join)
def test_every_command_explains_itself(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """--help works for every command, says what it does and describes each option."""
    assert main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: {' '.join(('a2p', *path))}" in text
    described = [line for line in text.splitlines() if "--" in line and "│" in line]
    assert all(len(line.strip("│ ").split()) > 2 for line in described), text


def test_help_imports_nothing_heavy() -> None:
    """The command line itself stays quick: no numerical or network library is imported for it."""
    script = "import sys, streaming.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not LIGHT_IMPORTS & set(loaded)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the package's name and version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("a2p-live 0.")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["serve", "--no-such"], "No such option: --no-such"),
        (["nothing"], "No such command 'nothing'"),
        (["transcribe"], "Missing argument 'FILE'"),
        (["transcribe", "a.wav", "--format", "pdf"], "'pdf' is not one of"),
        (["retrieve", "a.wav"], "Missing option '--glossary'"),
        (["serve", "--port", "many"], "Invalid value for '--port'"),
        (["transcribe", "a.wav", "--threshold", "2"], "'2' is neither a number from 0 to 1 nor"),
        (["mic", "--threshold", "bold"], "'bold' is neither a number from 0 to 1 nor cautious"),
    ],
)
def test_wrong_command_lines(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong option or argument exits with 2, names it and points to the help."""
    line = _fails(capsys, *arguments, code=2)
    assert complaint in line
    assert "--help`" in line


def test_debug_shows_the_traceback() -> None:
    """With --debug the error is raised, so that its origin can be seen."""
    from a2p_engine.errors import AudioError

    with pytest.raises(AudioError, match="no such file"):
        main(["--debug", "transcribe", "absent.wav"])


def test_unusable_audio_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, a text file and an empty recording each get their own line."""
    text, empty = tmp_path / "notes.wav", tmp_path / "empty.wav"
    text.write_text("this is not audio")
    soundfile.write(empty, [], 16_000)
    assert "absent.wav: no such file" in _fails(capsys, "transcribe", "absent.wav")
    assert "notes.wav cannot be read as audio" in _fails(capsys, "transcribe", text)
    assert "empty.wav holds no audio" in _fails(capsys, "transcribe", empty)


def test_glossary_problems_are_named(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing glossary, one of unknown form and one without terms stop a command."""
    blank, other = tmp_path / "blank.txt", tmp_path / "terms.docx"
    blank.write_text("# nothing\n")
    other.write_text("term")
    command = ("transcribe", recording, "--glossary")
    assert "cannot read glossary absent.txt" in _fails(capsys, *command, "absent.txt")
    assert "no usable term" in _fails(capsys, *command, blank)
    assert "unknown form .docx" in _fails(capsys, *command, other)


def test_unknown_models_are_named(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a command about models nor one that uses them accepts an unknown name."""
    assert "there is no model 'gpt'" in _fails(capsys, "models", "pull", "gpt")
    assert "there is no model 'gpt'" in _fails(capsys, "models", "path", "gpt")
    line = _fails(capsys, "transcribe", recording, "--speech-llm", "gpt")
    assert "unknown speech LLM 'gpt'" in line


def test_glossary_check_lists_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Repeats, symbols and over-long lines are listed with their reason, and the exit code is 1."""
    path = tmp_path / "terms.txt"
    path.write_text(f"apixaban\napixaban\n***\n{'x' * 300}\n", encoding="utf-8")
    assert main(["glossary", "check", str(path)]) == 1
    text = capsys.readouterr().out
    assert "1 terms, 3 left out" in text
    assert "'apixaban': repeated" in text
    assert main(["glossary", "check", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["terms"] == 1
    assert len(report["rejected"]) == 3


def test_glossary_check_lists_what_cannot_be_pronounced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A term in letters that nobody can read is left out, unless it says how it sounds."""
    path = tmp_path / "terms.csv"
    path.write_text("term,sounds_like\n東京,\n大阪,osaka\nÑandú,\n")
    assert main(["glossary", "check", str(path)]) == 1
    text = capsys.readouterr().out
    assert "2 terms, 1 left out" in text
    assert "'東京': cannot be pronounced: give it a 'sounds_like'" in text


def test_glossary_check_of_a_good_file(glossary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to complain about is exit code 0."""
    assert main(["glossary", "check", str(glossary)]) == 0
    assert "2 terms, 0 left out" in capsys.readouterr().out


def test_models_list_and_path(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The list says what is here; path prints a directory for scripts."""
    (tmp_path / "whisper-base").mkdir()
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["models", "list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any(row.startswith("whisper-base") and str(tmp_path) in row for row in rows)
    assert any(row.startswith("kokoro-82m") and "not pulled" in row for row in rows)
    assert main(["models", "path", "whisper-base"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "whisper-base")
    assert "a2p models pull kokoro-82m" in _fails(capsys, "models", "path", "kokoro-82m")


def test_transcribe_writes_every_format(
    engine: FakeEngine,
    recording: Path,
    glossary: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two stretches of speech make two segments, on standard output or in a file."""
    command = ["transcribe", str(recording), "--vad", "energy", "--glossary", str(glossary)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("w0 w1") for line in lines)
    target = tmp_path / "captions.srt"
    assert main([*command, "--format", "srt", "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert target.read_text().startswith("1\n00:00:00,")
    assert main([*command, "--format", "vtt"]) == 0
    assert capsys.readouterr().out.startswith("WEBVTT\n\n")
    assert main([*command, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["segments"]) == 2
    assert "cannot write" in _fails(capsys, *command, "--output", "/nowhere/captions.txt")


def test_retrieve_shows_terms_with_probability_and_time(
    engine: FakeEngine, recording: Path, glossary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Terms of each stretch of speech, as a table or as JSON; --top-k reaches the engine."""
    command = ["retrieve", str(recording), "-g", str(glossary), "--vad", "energy", "--top-k", "3"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert table.count("apixaban") == 2
    assert "0.500" in table
    assert main([*command, "--json"]) == 0
    segments = json.loads(capsys.readouterr().out)
    assert [hit["term"] for hit in segments[0]["terms"]] == ["apixaban", "rosuvastatin"]


@pytest.mark.parametrize(("text", "threshold"), [("0.25", 0.25), ("eager", "eager")])
def test_a_threshold_reaches_the_engine_as_number_or_name(
    engine: FakeEngine,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    threshold: float | str,
) -> None:
    """What a name stands for is the retriever's business."""
    monkeypatch.setattr(engine, "close", lambda session: None)
    assert main(["transcribe", str(recording), "--vad", "energy", "--threshold", text]) == 0
    assert [session.options.threshold for session in engine.sessions.values()] == [threshold]


def test_port_in_use_is_said_plainly(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second server on a port names host, port and reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = _fails(capsys, "serve", "--port", port)
    assert f"cannot listen on 127.0.0.1, port {port}" in line


def test_serve_refuses_unusable_settings(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown keys of a settings file, absent glossaries and odd MQTT addresses are one line."""
    config = tmp_path / "server.toml"
    config.write_text("[server]\nprot = 1\n")
    assert "prot" in _fails(capsys, "serve", "--config", config)
    assert "absent.txt" in _fails(capsys, "serve", "--port", 0, "--glossary", "absent.txt")
    assert "mqtt://" in _fails(capsys, "serve", "--port", 0, "--mqtt", "broker")


def test_stream_sends_a_file_and_shows_finals(
    url: str, recording: Path, glossary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recording goes to a server with a glossary file; finals come back as lines."""
    command = ["stream", str(recording), "--url", url, "--pace", "0", "--glossary", str(glossary)]
    assert main([*command, "--threshold", "eager", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "SessionStarted"
    assert events[0]["glossary"]["terms"] == 2
    assert events[0]["options"]["threshold"] == "eager"
    assert events[-1]["event"] == "SessionEnded"


def test_stream_sends_large_glossaries_in_parts(
    url: str, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More terms than fit into one message all arrive."""
    path = tmp_path / "large.txt"
    path.write_text("".join(f"term number {number}\n" for number in range(25_000)))
    command = ["stream", str(recording), "--url", url, "--pace", "0", "--glossary", str(path)]
    assert main([*command, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    updates = [event for event in events if event["event"] == "GlossaryUpdated"]
    assert len(updates) > 1
    assert updates[-1]["terms"] == 25_000


def test_stream_takes_audio_from_a_pipe(url: str) -> None:
    """Raw PCM on standard input is captioned, and Ctrl-C ends the audio, not the last caption."""
    command = [sys.executable, "-m", "streaming.cli", "stream", "-", "--url", url, "--json"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False, env=os.environ
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert b"SessionStarted" in process.stdout.readline()
    process.stdin.write(pcm(silence(0.3), tone(1.0)))
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0
    assert b"SessionEnded" in rest


def test_stream_explains_what_is_wrong(
    url: str, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No server, an unknown glossary, a bad rate and a missing file are one line each."""
    stream = ("stream", recording, "--url")
    assert "cannot reach" in _fails(capsys, *stream, "ws://127.0.0.1:9/ws")
    assert "glossary" in _fails(capsys, *stream, url, "--glossary", "unknown")
    assert "12345" in _fails(capsys, "stream", "-", "--url", url, "--rate", 12345)
    assert "absent.wav: no such file" in _fails(capsys, "stream", "absent.wav", "--url", url)


def test_training_commands_check_their_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing files are named; an endless split wants a number."""
    (tmp_path / "whisper-base").mkdir()
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    out = tmp_path / "out"
    line = _fails(capsys, "synthesize", "absent.txt", "--out", out, "--split", "dev")
    assert "absent.txt" in line
    assert "--utterances" in _fails(capsys, "synthesize", "absent.txt", "--out", out)
    options = ("--data", tmp_path, "--dev", tmp_path, "--out", out)
    assert "absent.toml" in _fails(capsys, "train", "absent.toml", *options)


def test_calibrate_checks_its_input_before_any_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizes, manifests and words are named."""
    manifest, words = tmp_path / "manifest.jsonl", tmp_path / "words.txt"
    manifest.write_text('{"id": "a", "audio": "a.wav", "text": "a badge"}\n')

    def fails(manifest: Path, *options: str) -> str:
        given = ("-m", manifest, "--rare-words", words, *options)
        return _fails(capsys, "calibrate", tmp_path, *given)

    for sizes in ("2000,many", "", "2000,99"):
        assert "numbers of at least 100" in fails(manifest, "--sizes", sizes)
    assert "absent.jsonl" in fails(tmp_path / "absent.jsonl")
    assert "words.txt" in fails(manifest)


@pytest.mark.slow
def test_eval_streaming_with_real_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real server is started, measured with a real recording, and stopped."""
    source = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
    audio, rate_hz = soundfile.read(source)
    soundfile.write(tmp_path / "clip.flac", audio[: 8 * rate_hz], rate_hz)
    entry = {"id": "clip", "audio": "clip.flac", "text": "good morning", "terms": []}
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps(entry) + "\n")
    dump = tmp_path / "records.jsonl"
    command = ["eval", "streaming", "--manifest", str(manifest), "--json", "--dump", str(dump)]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["utterances"] == 1
    assert summary["final_s"]["n"] >= 1
    assert "good morning" in json.loads(dump.read_text())["hypothesis"].lower()


def test_the_ready_line_tells_every_address(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And Vosk's only when it has a port of its own."""

    def serve(settings: ServerSettings, _: object, __: object, on_ready: Any) -> None:
        async def run() -> None:
            async with server.running(settings, engine) as running:
                on_ready(running)

        asyncio.run(run())

    monkeypatch.setattr(server, "serve", serve)
    for options, addresses in (([], 2), (["--vosk-port", "0"], 3)):
        assert main(["serve", "--port", "0", *options]) == 0
        line = capsys.readouterr().out
        assert line.count("://127.0.0.1:") == addresses
        assert ("  vosk ws://127.0.0.1:" in line) == (addresses == 3)
