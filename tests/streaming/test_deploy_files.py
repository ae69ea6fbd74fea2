"""The files for deployment name only what there is: commands, options, settings, paths, ports."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dockerfile
import pytest
import typer

from a2p_engine.speech_llm.openai_settings import OpenAISettings
from streaming.cli import app
from streaming.operations.metrics import Gauges, Metrics
from streaming.settings import ENVIRONMENT_PREFIX, ServerSettings
from tests.streaming.fake_engine import FakeEngine

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
SETTINGS = ROOT / "examples" / "server.toml"
UNIT = DEPLOY / "a2p-live.service"
# Read by others than the server.
OTHER_VARIABLES = {"A2P_MODELS_DIR", "A2P_MQTT_PASSWORD", "A2P_API_KEY"}


@pytest.fixture
def unit() -> configparser.RawConfigParser:
    """The systemd unit; of keys that repeat, the values are joined by newlines."""

    class Joined(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and isinstance(self.get(key), list):
                value = self[key] + value
            super().__setitem__(key, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Joined)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")
    return parser


@pytest.fixture
def image() -> list[dockerfile.Command]:
    """The instructions of the Dockerfile, as Docker's own parser reads them."""
    return list(dockerfile.parse_file(str(ROOT / "Dockerfile")))


def values(image: list[dockerfile.Command], instruction: str) -> list[tuple[str, ...]]:
    """What stands behind each instruction of a kind."""
    return [command.value for command in image if command.cmd.upper() == instruction]


def check_command(words: list[str]) -> None:
    """The command exists and takes these options, here without carrying it out."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command)
    name, command, rest = command.resolve_command(context, words)
    command.make_context(name, list(rest), parent=context)


def check_variables(names: list[str]) -> None:
    """Variables of ours are settings."""
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in ServerSettings.model_fields}
    own = {name for name in names if name.startswith(ENVIRONMENT_PREFIX)}
    assert own <= known | OTHER_VARIABLES


def test_the_example_names_every_setting() -> None:
    """With its default; those without one are commented out with an example that would do."""
    text = SETTINGS.read_text(encoding="utf-8")
    given = tomllib.loads(text)["server"]
    tables = tomllib.loads(re.sub(r"^#(?=\w+ = |\[)", "", text, flags=re.M))
    everything = {**tables["server"], "engine": tables["engine"]}
    example = OpenAISettings.load(tables["engine"]["openai"])
    assert set(tables["engine"]["openai"]) == set(OpenAISettings.model_fields) - {"api_key"}
    assert example.final_timeout_s == OpenAISettings.model_fields["final_timeout_s"].default
    assert set(everything) == set(ServerSettings.model_fields)
    assert ServerSettings.load(SETTINGS) == ServerSettings()
    defaults = ServerSettings().model_dump()
    assert {name for name, value in defaults.items() if value is None} <= set(everything) - set(
        given
    )
    named = {**everything, "glossaries": {everything["default_glossary"]: "terms.txt"}}
    assert ServerSettings.load(**named).admin_port == everything["admin_port"]


def test_the_unit_runs_commands_that_exist(unit: configparser.RawConfigParser) -> None:
    """With options that they take, as a user that exists only then."""
    for key in ("ExecStart", "ExecStartPre"):
        program, *words = shlex.split(unit["Service"][key])
        assert program == "/opt/a2p/bin/a2p"
        check_command(words)
    set_to = re.findall(r"^(\w+)=", unit["Service"]["Environment"], re.M)
    assert set_to == ["XDG_CACHE_HOME"]
    assert unit["Service"]["DynamicUser"] == "yes"


def test_the_unit_leaves_time_to_drain(unit: configparser.RawConfigParser) -> None:
    """Killing begins only after what the server grants its sessions by default, and a margin."""
    settings = ServerSettings()
    granted_s = settings.drain_delay_s + settings.shutdown_timeout_s
    assert unit["Service"]["KillSignal"] == "SIGTERM"
    assert float(unit["Service"]["TimeoutStopSec"]) >= granted_s + 20


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Every line of it, as far as systemd can tell without running it."""
    assert shutil.which("systemd-analyze"), "run scripts/setup-system, which installs systemd"
    program = Path(sys.executable).with_name("a2p")
    here = UNIT.read_text(encoding="utf-8").replace("/opt/a2p/bin/a2p", str(program))
    copy = tmp_path / UNIT.name
    copy.write_text(here, encoding="utf-8")
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_image_is_built_of_what_there_is(image: list[dockerfile.Command]) -> None:
    """Stages that it is built from exist, and so does what it copies, also for Docker."""
    ignored = ROOT.joinpath(".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    stages: set[str] = set()
    for command in image:
        if command.cmd.upper() == "FROM":
            base, *name = command.value
            assert ":" in base or base == "base-${VARIANT}"
            stages |= {name[1]} if name else set()
        elif command.cmd.upper() == "COPY" and not command.flags:
            assert set(command.value[:-1]) <= kept
        elif command.cmd.upper() == "COPY":
            assert command.flags[0].removeprefix("--from=") in stages
    assert {"base-cpu", "base-cuda"} <= stages
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_has_all_that_is_packaged(image: list[dockerfile.Command]) -> None:
    """Every package of the distribution, and the files that its description needs."""
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))
    copied = {name for value in values(image, "COPY") for name in value}
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    assert {*packages, *files, "pyproject.toml", "constraints.txt"} <= copied


def test_the_image_runs_the_server(image: list[dockerfile.Command]) -> None:
    """By a command that exists, as nobody in particular, stopped by the signal it knows."""
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))
    ((program,),), (words,) = values(image, "ENTRYPOINT"), values(image, "CMD")
    assert program in project["project"]["scripts"]
    check_command(list(words))
    ((user,),) = values(image, "USER")
    assert user.isdecimal() and int(user) > 0
    assert values(image, "STOPSIGNAL") == [("SIGTERM",)]
    assert values(image, "EXPOSE") == [(str(ServerSettings().port),)]
    (environment,) = values(image, "ENV")
    check_variables(list(environment[::2]))
    cache = dict(zip(environment[::2], environment[1::2], strict=True))["XDG_CACHE_HOME"]
    ((volume,),) = values(image, "VOLUME")
    assert cache.startswith(f"{volume}/")


async def test_the_image_checks_its_health(image: list[dockerfile.Command]) -> None:
    """The check passes where a server runs and fails where none does."""
    import asyncio

    from streaming.server import running

    ((*_, mark, program, flag, script),) = values(image, "HEALTHCHECK")
    assert (mark, program, flag) == ("CMD", "python3", "-c")
    assert f"127.0.0.1:{ServerSettings().port}/" in script
    settings = ServerSettings.load(port=0, warm_up=False)
    async with running(settings, FakeEngine()) as server:
        here = script.replace(f":{settings.port or ServerSettings().port}/", f":{server.port}/")
        for checked, status in ((here, 0), (here.replace(str(server.port), "9"), 1)):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", checked), stderr=subprocess.DEVNULL
            )
            assert await process.wait() == status


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_proxies_lead_to_the_server(name: str) -> None:
    """To its default port; what is for those inside stays inside."""
    text = DEPLOY.joinpath(name).read_text(encoding="utf-8")
    assert f"127.0.0.1:{ServerSettings().port}" in text
    assert "/metrics" in text and "/readyz" in text
    (hosts,) = re.findall(r"^#\s+allowed_hosts = (\[.*\])$", text, re.M)
    allowed = tomllib.loads(f"hosts = {hosts}")["hosts"]
    assert allowed == ["captions.example.org"] and text.count(allowed[0]) > 1


def test_nginx_is_as_generous_as_the_server() -> None:
    """Uploads of the size that the server takes pass, and silence that the server allows."""
    text = DEPLOY.joinpath("nginx.conf").read_text(encoding="utf-8")
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(megabytes) << 20 == ServerSettings().max_audio_upload_bytes
    timeouts_s = re.findall(r"proxy_(?:read|send)_timeout (\d+)s;", text)
    assert min(map(int, timeouts_s)) > 2 * ServerSettings().ping_s


def test_documentation_names_the_files() -> None:
    """Whoever reads how to run a server finds every file that helps."""
    text = ROOT.joinpath("docs", "operations.md").read_text(encoding="utf-8")
    files = [ROOT / "Dockerfile", SETTINGS, *DEPLOY.iterdir()]
    assert all(str(file.relative_to(ROOT)) in text for file in files)


def test_documentation_names_every_metric() -> None:
    """Each that a server tells is in the table, and none besides."""
    table = ROOT.joinpath("docs", "operations.md").read_text(encoding="utf-8")
    table = table.partition("| metric, each")[2].partition("\n\n")[0]
    cells = " ".join(re.findall(r"^\| (`.*?) \|", table, re.M))
    named = {name for name in re.findall(r"`([a-z_]+)", cells) if not name.startswith("process_")}
    metrics = Metrics()
    metrics.watch(Gauges(*[lambda: 0] * len(Gauges._fields)))
    metrics.describe("fake", {})
    types = re.findall(r"^# TYPE a2p_(\S+)", metrics.render()[0].decode(), re.M)
    assert named == {name for name in types if not name.endswith("_created")}
