"""The server's settings, from the command line, the environment and a TOML file, in that order.

Environment variables are ``A2P_`` and the name in capitals: ``A2P_PORT=9000``,
``A2P_GLOSSARIES='{"demo": "terms.txt"}'``. In a file they stand under ``[server]``, those of a
speech LLM under ``[engine.NAME]``.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from streaming.errors import SettingsError
from streaming.operations.logs import LogFormat, LogLevel
from streaming.security.origin import check_origins

ENVIRONMENT_PREFIX = "A2P_"
WEB_DIRECTORY = Path(__file__).parent.parent / "clients" / "web"
FRAME_ANCESTOR = re.compile(r"[^\s;,'\"]+")  # what cannot end the header's directive
JSON_EXAMPLES = {
    "glossaries": '{"demo": "terms.txt"}',
    "engine": '{"openai": {"base_url": "http://127.0.0.1:8000/v1"}}',
    "allowed_origins": '["https://meet.example.org"]',
    "allowed_hosts": '["captions.example.org"]',
    "frame_ancestors": '["https://meet.example.org"]',
}


def _expand(path: object) -> object:
    return Path(path).expanduser() if isinstance(path, str | Path) else path


UserPath = Annotated[Path, BeforeValidator(_expand)]


class ServerSettings(BaseModel):
    """Everything a server can be told; build it with ``load``, which gives readable errors.

    Attributes:
        host: address to listen on; ``0.0.0.0`` for all.
        port: port to listen on; 0 takes a free one.
        ssl_certfile: certificate chain in PEM form; browsers give the microphone to pages of
            other machines only over TLS.
        ssl_keyfile: the certificate's private key.
        glossaries: glossary files by the name that clients ask for.
        default_glossary: name of the glossary of sessions that do not say which they want.
        workers: engine steps that may run at the same time.
        max_sessions: connections accepted at the same time; beyond them as many may come to resume
            a session.
        admission: ``measured`` also refuses new sessions when, by what steps take here, finals
            would come late; ``fixed`` leaves it at ``max_sessions``.
        max_final_s: what late is: the longest 95th percentile of a final's latency.
        retry_after_s: when a client that was refused is told to try again.
        max_message_bytes: longest message a client may send.
        start_timeout_s: how long a new connection may stay without a ``start``, and a peer without
            a complete request.
        max_idle_s: how long any client may send no message at all, before its session and in it.
        max_backlog_s: audio a session may have unheard before the server stops reading from it.
        max_unread_events: events a session may have unsent before it is dropped; partials and
            statistics replace each other and do not pile up.
        resume_window_s: how long a session waits for its client to come back after a break, if the
            client wants it to; 0 never.
        vosk_port: further port on which every path speaks Vosk's protocol; None for none.
        vosk_sample_rate_hz: rate of Vosk clients that do not tell theirs.
        ping_s: after how long a silent connection is asked whether it is still there, and how
            long it then has to answer.
        shutdown_timeout_s: how long open sessions may take for their last finals.
        drain_delay_s: how long a server that was told to stop goes on as before, but not ready, so
            that load balancers notice.
        warm_up: load at the start what the first session would wait for.
        admin_host: address of the administrators' port.
        admin_port: port for metrics and administration alone; None leaves the metrics with the
            clients, and administration out.
        log_format: ``text`` or ``json``.
        log_level: least severe records that are logged.
        speech_llm: model that writes the captions.
        retriever: directory of a trained retriever; None takes the one that is shipped.
        device: where the models run.
        engine: settings of speech LLMs' own, by the speech LLM's name; in a file the tables
            ``[engine.NAME]``.
        mqtt: broker to publish captions to, as ``mqtt[s]://[user@]host[:port]``.
        mqtt_node: name of this server in topics; None takes the machine's.
        web_directory: static files served at ``/``.
        keys_file: API keys, as `a2p keys` writes them; without one everybody may do everything.
        allowed_origins: web pages of other hosts that may use the server; ``*`` is all.
        allowed_hosts: names by which the server may be addressed. Without any a server that only
            this machine can reach and that asks for no keys answers to names of the loopback.
        frame_ancestors: web pages that may show the captions page in a frame, besides its own.
        max_session_s: longest session.
        max_pace: how much faster than real time a client may send audio.
        max_messages_per_s: messages without audio that a client may send.
        max_uploads: recordings taken in at the same time.
        max_audio_upload_bytes: longest file of a recording.
        max_upload_s: longest recording.
        glossary_store: file of the glossaries that clients store; None for none.
        max_glossary_bytes: longest upload of a glossary.
        max_glossary_store_bytes: how large the file may become; None is as the disk allows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535)
    ssl_certfile: UserPath | None = None
    ssl_keyfile: UserPath | None = None
    glossaries: dict[str, UserPath] = Field(default_factory=dict)
    default_glossary: str | None = None
    workers: int = Field(2, ge=1, le=64)
    max_sessions: int = Field(32, ge=1, le=10_000)
    admission: Literal["measured", "fixed"] = "measured"
    max_final_s: float = Field(2.0, gt=0)
    retry_after_s: float = Field(5.0, ge=0)
    max_message_bytes: int = Field(1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    start_timeout_s: float = Field(10.0, gt=0)
    max_idle_s: float = Field(3600.0, gt=0)
    max_backlog_s: float = Field(30.0, ge=1)
    max_unread_events: int = Field(256, ge=8)
    resume_window_s: float = Field(30.0, ge=0, le=600)
    vosk_port: int | None = Field(None, ge=0, le=65535)
    vosk_sample_rate_hz: int = Field(8000, ge=8000, le=48000)
    ping_s: float = Field(20.0, gt=0)
    shutdown_timeout_s: float = Field(20.0, ge=0)
    drain_delay_s: float = Field(0.0, ge=0, le=600)
    warm_up: bool = True
    admin_host: str = "127.0.0.1"
    admin_port: int | None = Field(None, ge=0, le=65535)
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    speech_llm: str = "whisper-base"
    retriever: UserPath | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: dict[str, dict[str, Any]] = Field(default_factory=dict)
    mqtt: str | None = None
    mqtt_node: str | None = None
    web_directory: UserPath = WEB_DIRECTORY
    keys_file: UserPath | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    max_session_s: float = Field(12 * 3600.0, ge=1)
    max_pace: float = Field(10.0, ge=1)
    max_messages_per_s: float = Field(100.0, ge=1)
    max_uploads: int = Field(8, ge=1, le=1000)
    max_audio_upload_bytes: int = Field(25 * 1024 * 1024, ge=1024, le=1024**3)
    max_upload_s: float = Field(4 * 3600.0, ge=1)
    glossary_store: UserPath | None = None
    max_glossary_bytes: int = Field(64 * 1024 * 1024, ge=1024, le=1024**3)
    max_glossary_store_bytes: int | None = Field(None, ge=1024 * 1024)

    @field_validator("allowed_origins")
    @classmethod
    def _origins_are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        check_origins(origins)
        return origins

    @field_validator("frame_ancestors")
    @classmethod
    def _ancestors_are_sources(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for source in sources:
            if not FRAME_ANCESTOR.fullmatch(source):
                raise ValueError(f"{source!r} is not a source such as https://*.example.org")
        return sources

    @model_validator(mode="after")
    def _default_glossary_is_known(self) -> ServerSettings:
        stored = self.glossary_store is not None  # then only the server can tell
        named = self.default_glossary is not None and not stored
        if named and self.default_glossary not in self.glossaries:
            known = ", ".join(self.glossaries) or "none"
            raise ValueError(f"default_glossary {self.default_glossary!r} is not one of: {known}")
        return self

    @classmethod
    def load(cls, path: Path | str | None = None, **overrides: Any) -> ServerSettings:
        """Read settings; None among ``overrides`` counts as not given.

        Raises:
            SettingsError: the file cannot be read, a key is unknown or a value cannot be used.
        """
        given = {key: value for key, value in overrides.items() if value is not None}
        values = {**(_read(path) if path else {}), **_from_environment(), **given}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_first_problem(error)) from None


def _from_environment() -> dict[str, Any]:
    """Values of the variables that are settings; others of the same prefix belong to others."""
    names = {f"{ENVIRONMENT_PREFIX}{name.upper()}": name for name in ServerSettings.model_fields}
    found: dict[str, Any] = {names[key]: os.environ[key] for key in names if key in os.environ}
    return {
        name: _json(name, text) if name in JSON_EXAMPLES else text for name, text in found.items()
    }


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        raise SettingsError(f"{variable} must be JSON like {JSON_EXAMPLES[name]}") from None


def _read(path: Path | str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings {path}: {error}") from error
    for key in tables:
        if key not in ("server", "engine"):
            expected = "[server] and [engine.NAME]"
            raise SettingsError(f"settings {path}: unknown key {key!r}; expected {expected}")
    server = tables.get("server", {})
    if not isinstance(server, dict):
        raise SettingsError(f"settings {path}: 'server' must be a table")
    return server | ({"engine": tables["engine"]} if "engine" in tables else {})


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(ServerSettings.model_fields)
        return f"unknown setting {key!r}; accepted: {known}"
    text = problem["msg"].removeprefix("Value error, ")
    return f"setting {key!r}: {text} (got {problem['input']!r})" if key else text


def named_glossary(text: str) -> tuple[str, Path]:
    """Name and path of ``NAME=PATH``; of a plain path, its stem is the name.

    Raises:
        SettingsError: the name or the path is empty.
    """
    name, equals, path = text.partition("=")
    if not equals:
        name, path = Path(text).stem, text
    if not name or not path:
        raise SettingsError(f"glossary {text!r}: expected NAME=PATH or a path")
    return name, Path(path)
