"""Settings come from arguments, environment and file, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.errors import SettingsError
from streaming.settings import ServerSettings, named_glossary


def write(path: Path, text: str) -> Path:
    """A settings file."""
    file = path / "a2p.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_arguments_rank_before_environment_before_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest source wins, value by value."""
    file = write(tmp_path, "[server]\nport = 1\nworkers = 3\nmax_sessions = 5\n")
    monkeypatch.setenv("A2P_PORT", "2")
    monkeypatch.setenv("A2P_WORKERS", "4")
    monkeypatch.setenv("A2P_SOMETHING_ELSE", "of another part")
    settings = ServerSettings.load(file, port=7, host=None)
    assert (settings.port, settings.workers, settings.max_sessions) == (7, 4, 5)
    assert settings.host == "127.0.0.1"


def test_glossaries_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are JSON there, and paths may begin with ~."""
    monkeypatch.setenv("A2P_GLOSSARIES", '{"demo": "~/terms.txt"}')
    assert ServerSettings.load().glossaries == {"demo": Path.home() / "terms.txt"}
    monkeypatch.setenv("A2P_GLOSSARIES", "demo")
    with pytest.raises(SettingsError, match="A2P_GLOSSARIES must be JSON"):
        ServerSettings.load()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nprot = 1\n", "unknown setting 'prot'; accepted: host, port"),
        ("[sever]\nport = 1\n", "unknown key 'sever'"),
        ("server = 1\n", "'server' must be a table"),
        ("[server\n", "settings .*a2p.toml"),
        ("[server]\nport = 99999\n", "setting 'port': .*65535.*99999"),
        ("[server]\nmax_idle_s = 0\n", "setting 'max_idle_s': .*greater than 0"),
        ('[server]\ndefault_glossary = "x"\n', "default_glossary 'x' is not one of: none"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, named: str) -> None:
    """The error names the key, and the file where it is the file that is wrong."""
    with pytest.raises(SettingsError, match=named) as caught:
        ServerSettings.load(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_argument() -> None:
    """Both are errors of the same kind."""
    with pytest.raises(SettingsError, match=r"cannot read settings nowhere\.toml: No such file"):
        ServerSettings.load("nowhere.toml")
    with pytest.raises(SettingsError, match="unknown setting 'prot'"):
        ServerSettings.load(prot=1)


def test_names_of_glossaries() -> None:
    """NAME=PATH gives the name; a plain path is named by its stem."""
    assert named_glossary("demo=a/b.txt") == ("demo", Path("a/b.txt"))
    assert named_glossary("a/drugs.csv") == ("drugs", Path("a/drugs.csv"))
    for text in ("=a.txt", "demo=", ""):
        with pytest.raises(SettingsError, match="expected NAME=PATH"):
            named_glossary(text)
