"""``a2p serve --check``: every reason not to start is found before anything is loaded."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import trustme
from safetensors.numpy import save_file

from a2p_engine.types import Term
from streaming.bench.whisper_server import WhisperServer
from streaming.cli import main
from streaming.glossaries.store import GlossaryStore
from streaming.security.keys import new_key, write_keys

Check = Callable[..., tuple[int, dict[str, str], str]]


@pytest.fixture
def check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Check:
    """Runs the check where the weights are present; returns exit code, lines by name, errors."""
    (tmp_path / "models" / "whisper-base").mkdir(parents=True)
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path / "models"))

    def run(*options: object) -> tuple[int, dict[str, str], str]:
        given = ["serve", "--check", *map(str, options)]
        code = main(given if "--port" in given else [*given, "--port", "0"])
        out, err = capsys.readouterr()
        lines = out.partition("checked")[2].splitlines()[1:]
        found = (line.strip().split(maxsplit=1) for line in lines)
        return code, {rest.split("  ")[0]: f"{mark} {rest}" for mark, rest in found}, err

    return run


def certificate(directory: Path, **options: object) -> tuple[Path, Path]:
    """Certificate and key of this machine, by an authority of its own."""
    issued = trustme.CA().issue_cert("localhost", **options)  # type: ignore[arg-type]
    paths = directory / "cert.pem", directory / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(paths[0]))
    issued.private_key_pem.write_to_path(str(paths[1]))
    return paths


def test_settings_that_would_do(check: Check) -> None:
    """Exit code 0; the weights, who may come and the port are told."""
    code, found, err = check()
    assert (code, err) == (0, "")
    assert "whisper-base" in found["speech model"]
    assert "only this machine" in found["API keys"]
    assert found["port"].endswith("127.0.0.1, port any: free")
    assert all(line.startswith("ok ") for line in found.values())


def test_what_is_in_force(
    check: Check, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting with its value, where it is not the default; passwords never."""
    monkeypatch.setenv("A2P_MQTT_PASSWORD", "open sesame")
    monkeypatch.setenv("A2P_MAX_SESSIONS", "3")
    address = "mqtt://me:sesame@broker"
    main(["serve", "--check", "--port", "0", "--workers", "1", "--mqtt", address])
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["max_sessions"] == ["3", "set"] and rows["workers"] == ["1", "set"]
    assert rows["max_backlog_s"] == ["30.0", "default"]
    assert rows["mqtt"] == ["mqtt://me:***@broker", "set"]
    assert rows["A2P_MQTT_PASSWORD"] == ["***", "environment"]
    assert "sesame" not in out + err


def test_a_wrong_setting(check: Check, tmp_path: Path) -> None:
    """It is named, with exit code 2."""
    config = tmp_path / "server.toml"
    config.write_text("[server]\nprot = 1\n", encoding="utf-8")
    code, found, err = check("--config", config)
    assert (code, found) == (2, {})
    assert err.startswith("failed  settings: unknown setting 'prot'")


def test_missing_weights(check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """How to get them is told; a model that does not exist is named."""
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_: str(tmp_path / "cache"))
    code, found, err = check()
    assert code == 2 and "run `a2p models pull whisper-base`" in found["speech model"]
    assert err == "the server would not start: speech model\n"
    assert "no model 'whisper-huge'" in check("--speech-llm", "whisper-huge")[1]["speech model"]


def test_an_incomplete_retriever(check: Check, tmp_path: Path) -> None:
    """The files it lacks are named."""
    (tmp_path / "calibration.json").write_text("{}", encoding="utf-8")
    code, found, _ = check("--retriever", tmp_path)
    assert code == 2
    assert found["retriever"].endswith("lacks a2p_head.safetensors, phoneme_ctc.safetensors")


def test_glossaries(check: Check, tmp_path: Path) -> None:
    """Terms are counted, entries that are left out are told, unreadable files fail."""
    (tmp_path / "drugs.txt").write_text("Eliquis\nwarfarin\nEliquis\n", encoding="utf-8")
    save_file({"column": np.zeros(3)}, tmp_path / "index.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not an index")
    named = [f"--glossary={path}" for path in sorted(tmp_path.glob("*.*"))]
    code, found, err = check(*named, "--glossary=absent.csv")
    assert code == 2 and err.endswith("start: glossary broken, glossary absent\n")
    assert "2 terms; 1 entries are left out, the first is 'Eliquis'" in found["glossary drugs"]
    assert "an index with 1 columns" in found["glossary index"]
    assert "No such file" in found["glossary absent"]


def test_the_glossary_store(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there is read, one that is not is not made, and where it could not be fails."""
    path = tmp_path / "store.sqlite"
    monkeypatch.setenv("A2P_GLOSSARY_STORE", str(path))
    code, found, _ = check()
    assert code == 0 and found["glossary store"].endswith("will be made") and not path.exists()
    store = GlossaryStore(path)
    store.replace(None, "drugs", [Term(text="Eliquis")], author="a test")
    store.close()
    assert check()[1]["glossary store"].endswith("store.sqlite: 1 glossaries")
    path.write_bytes(b"something else, of some length" * 100)
    assert check()[0] == 2
    monkeypatch.setenv("A2P_GLOSSARY_STORE", str(tmp_path / "nowhere" / "store.sqlite"))
    assert "cannot be made" in check()[1]["glossary store"]


def test_a_certificate(check: Check, tmp_path: Path) -> None:
    """Its last day is told, soon enough to renew it."""
    cert, key = certificate(tmp_path)
    code, found, _ = check("--ssl-certfile", cert, "--ssl-keyfile", key)
    assert code == 0 and "valid until" in found["certificate"]
    assert "renew" not in found["certificate"]
    cert, key = certificate(tmp_path, not_after=datetime.now(UTC) + timedelta(days=3))
    code, found, _ = check("--ssl-certfile", cert, "--ssl-keyfile", key)
    assert code == 0 and found["certificate"].endswith("2 days: renew it soon")


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("expired", "certificate has expired"),
        ("other key", "key values mismatch"),
        ("no key", "PEM"),
        ("absent", "No such file"),
    ],
)
def test_a_certificate_that_would_not_do(
    check: Check, tmp_path: Path, trouble: str, said: str
) -> None:
    """Expired, without its key, or not there at all."""
    before = datetime.now(UTC) - timedelta(days=9)
    options = {"not_before": before, "not_after": before + timedelta(days=1)}
    cert, key = certificate(tmp_path, **(options if trouble == "expired" else {}))
    if trouble == "other key":
        (tmp_path / "other").mkdir()
        _, key = certificate(tmp_path / "other")
    elif trouble == "no key":
        key.write_text("", encoding="utf-8")
    elif trouble == "absent":
        cert.unlink()
    code, found, _ = check("--ssl-certfile", cert, "--ssl-keyfile", key)
    assert code == 2 and found["certificate"].startswith("failed ")
    assert said in found["certificate"]


def test_api_keys(check: Check, tmp_path: Path) -> None:
    """Valid ones are counted; a file that others may write is refused."""
    path = tmp_path / "keys.json"
    records = [new_key("ward").record, new_key("clinic").record]
    write_keys(path, [records[0], records[1].model_copy(update={"disabled": True})])
    code, found, _ = check("--keys-file", path)
    assert code == 0 and found["API keys"].endswith("1 of 2 keys are valid")
    path.chmod(0o666)
    code, found, _ = check("--keys-file", path)
    assert code == 2 and "others can write" in found["API keys"]
    assert "everybody in reach" in check("--host", "0.0.0.0")[1]["API keys"]


def test_ports_in_use(check: Check) -> None:
    """Of clients and of administrators."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, found, err = check("--port", port, "--admin-port", port)
    assert code == 2 and err == "the server would not start: port, admin port\n"
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in found["port"]


def test_an_address_of_a_broker(check: Check) -> None:
    """It is read, not tried."""
    code, found, _ = check("--mqtt", "mqtt://broker", "--mqtt-node", "hall")
    assert code == 0 and found["MQTT"].endswith("broker, port 1883, as hall; not tried")
    assert check("--mqtt", "broker")[0] == 2


def test_no_model_is_loaded() -> None:
    """The check is a matter of a moment: it never imports what models need."""
    script = (
        "import sys; from streaming.cli import main; main(['serve', '--check', '--port', '0']); "
        "assert not {'torch', 'ctranslate2', 'transformers', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("model", "told"), [("whisper-1", "ok "), ("other", "no model 'other' at http")]
)
def test_the_server_that_writes_captions_is_asked_for_its_models(
    check: Check, monkeypatch: pytest.MonkeyPatch, model: str, told: str
) -> None:
    """With ``--speech-llm openai``; the weights are those of the encoder, which stays here."""
    monkeypatch.setenv("A2P_OPENAI_MODEL", model)
    with WhisperServer(None).serving() as url:  # type: ignore[arg-type]  # no audio is sent
        monkeypatch.setenv("A2P_OPENAI_BASE_URL", url)
        code, found, _ = check("--speech-llm", "openai")
    assert "whisper-base" in found["speech model"]
    (line,) = [line for name, line in found.items() if name.startswith("speech model's server")]
    assert told in line
    assert (code == 0) == (model == "whisper-1")


def test_what_a_server_for_captions_lacks_is_told_in_full(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a table stands in brackets, which are no markup."""
    monkeypatch.delenv("A2P_OPENAI_BASE_URL", raising=False)
    code, found, _ = check("--speech-llm", "openai")
    assert code != 0
    assert "or base_url in [engine.openai]" in " ".join(found.values())
