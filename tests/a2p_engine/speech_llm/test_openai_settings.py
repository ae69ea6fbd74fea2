"""Settings of the OpenAI-compatible server: where they come from, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from a2p_engine.errors import InputError
from a2p_engine.speech_llm.openai_settings import OpenAISettings

ADDRESS = "http://127.0.0.1:8000/v1"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A2P_OPENAI_BASE_URL", "A2P_OPENAI_MODEL", "A2P_OPENAI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_ranks_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read from text."""
    monkeypatch.setenv("A2P_OPENAI_MODEL", "Qwen/Qwen3-ASR-1.7B")
    monkeypatch.setenv("A2P_OPENAI_PARTIAL_TIMEOUT_S", "1.5")
    found = OpenAISettings.load({"base_url": f"{ADDRESS}/", "model": "other", "retries": 1})
    assert (found.base_url, found.model) == (ADDRESS, "Qwen/Qwen3-ASR-1.7B")
    assert (found.partial_timeout_s, found.retries) == (1.5, 1)


def test_the_key_is_from_the_environment_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own variable ranks before the one that others read too."""
    table = {"base_url": ADDRESS, "model": "m"}
    assert OpenAISettings.load(table).api_key is None
    for name, key in (("OPENAI_API_KEY", "sk-common"), ("A2P_OPENAI_API_KEY", "sk-ours")):
        monkeypatch.setenv(name, key)
        found = OpenAISettings.load(table)
        assert found.api_key is not None
        assert found.api_key.get_secret_value() == key
        assert key not in f"{found!r} {found}"
    with pytest.raises(InputError, match="belongs into A2P_OPENAI_API_KEY"):
        OpenAISettings.load({**table, "api_key": "sk-file"})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "needs 'base_url': set A2P_OPENAI_BASE_URL, or base_url in"),
        ({"base_url": ADDRESS}, "needs 'model'"),
        ({"base_url": ADDRESS, "model": ""}, "A2P_OPENAI_MODEL"),
        ({"base_url": "localhost:8000", "model": "m"}, "must look like http://127"),
        ({"base_url": "http://me:sk-1@host/v1", "model": "m"}, "not into the address"),
        ({"base_url": "http://host:abc/v1", "model": "m"}, "it names no valid host and port"),
        ({"base_url": "http://host:99999/v1", "model": "m"}, "it names no valid host and port"),
        ({"base_url": "http://my host/v1", "model": "m"}, "it names no valid host and port"),
        ({"base_url": "http://.../v1", "model": "m"}, "it names no valid host and port"),
        ({"base_url": ADDRESS, "model": "m", "speed": 1}, "unknown setting 'speed'"),
        ({"base_url": ADDRESS, "model": "m", "interface": "soap"}, "'chat' or 'transcriptions'"),
        ({"base_url": ADDRESS, "model": "m", "retries": -1}, "A2P_OPENAI_RETRIES: "),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], told: str) -> None:
    """With what is accepted; a key in the wrong place is not repeated."""
    with pytest.raises(InputError, match=told) as caught:
        OpenAISettings.load(table)
    assert "sk-1" not in str(caught.value)


def test_a_key_is_what_a_header_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of line of a file is taken away; what cannot be sent is told without being shown."""
    table = {"base_url": ADDRESS, "model": "m"}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\n")
    found = OpenAISettings.load(table)
    assert found.api_key is not None
    assert found.api_key.get_secret_value() == "sk-1"
    for key in ("sk-\N{LATIN SMALL LETTER E WITH ACUTE}", "sk-1\nx"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(InputError, match="a key is of printable ASCII") as caught:
            OpenAISettings.load(table)
        assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "interface", "wording"),
    [
        ("openai/whisper-large-v3-turbo", "transcriptions", "generic"),
        ("Qwen/Qwen2-Audio-7B-Instruct", "chat", "qwen2-audio"),
        ("Qwen/Qwen3-ASR-0.6B", "chat", "qwen3-asr"),
        ("mistralai/Voxtral-Mini-3B-2507", "chat", "voxtral"),
        ("gpt-audio", "chat", "generic"),
    ],
)
def test_the_models_name_tells_its_family(model: str, interface: str, wording: str) -> None:
    """Unless the settings say otherwise."""
    found = OpenAISettings(base_url=ADDRESS, model=model)
    assert (found.asks, found.wording) == (interface, wording)
    given = OpenAISettings(
        base_url=ADDRESS, model=model, interface="transcriptions", template="voxtral"
    )
    assert (given.asks, given.wording) == ("transcriptions", "voxtral")
