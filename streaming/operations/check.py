"""Whether a server would start with some settings, found out without loading any model."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from a2p_engine import glossary, models
from a2p_engine.errors import A2PError
from streaming.errors import SettingsError
from streaming.glossaries.choice import INDEX_SUFFIX
from streaming.glossaries.store import GlossaryStore
from streaming.publishers.mqtt import PASSWORD_VARIABLE, MqttSettings
from streaming.security.auth import is_loopback
from streaming.security.keys import read_keys, today_utc
from streaming.settings import ServerSettings
from streaming.transport.sockets import listen

RETRIEVER_FILES = ("a2p_head.safetensors", "phoneme_ctc.safetensors", "calibration.json")
EXPIRES_SOON = timedelta(days=14)
PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")


class Finding(NamedTuple):
    """What came of one check.

    Attributes:
        what: was checked.
        said: about it, on one line.
        ok: whether the server would start with it.
    """

    what: str
    said: str
    ok: bool = True


def findings(settings: ServerSettings) -> Iterator[Finding]:
    """Check everything that can be checked in a moment."""
    for what, check in _checks(settings):
        try:
            yield Finding(what, check())
        except (A2PError, OSError, SafetensorError) as error:
            yield Finding(what, " ".join(str(error).split()), ok=False)


def in_force(settings: ServerSettings) -> Iterator[tuple[str, str, str]]:
    """Each setting, its value without secrets, and whether it is the default."""
    for name, field in ServerSettings.model_fields.items():
        value = getattr(settings, name)
        default = value == field.get_default(call_default_factory=True)
        yield name, _shown(value), "default" if default else "set"
    yield PASSWORD_VARIABLE, "***" if os.environ.get(PASSWORD_VARIABLE) else "-", "environment"


def _checks(settings: ServerSettings) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "speech model", partial(_speech_llm, settings.speech_llm)
    if settings.speech_llm == "openai":
        yield "speech model's server", partial(_openai, settings.engine.get("openai"))
    if settings.retriever is not None:
        yield "retriever", partial(_retriever, settings.retriever)
    for name, path in settings.glossaries.items():
        yield f"glossary {name}", partial(_glossary, path)
    if settings.glossary_store is not None:
        yield "glossary store", partial(_store, settings.glossary_store)
    if settings.ssl_certfile is not None:
        yield "certificate", partial(_certificate, settings.ssl_certfile, settings.ssl_keyfile)
    yield "API keys", partial(_keys, settings)
    if settings.mqtt is not None:
        yield "MQTT", partial(_mqtt, settings.mqtt, settings.mqtt_node)
    yield "captions page", partial(_page, settings.web_directory)
    for what, host, port in _ports(settings):
        yield what, partial(_port, host, port)


def _ports(settings: ServerSettings) -> Iterator[tuple[str, str, int]]:
    yield "port", settings.host, settings.port
    if settings.admin_port is not None:
        yield "admin port", settings.admin_host, settings.admin_port
    if settings.vosk_port is not None:
        yield "Vosk port", settings.host, settings.vosk_port


def _speech_llm(name: str) -> str:
    weights = "whisper-base" if name == "openai" else name  # of the encoder, which stays here
    return f"weights of {weights} are in {models.find(weights)}"


def _openai(table: Mapping[str, Any] | None) -> str:
    from a2p_engine.speech_llm.openai_http import Deadline, OpenAIServer
    from a2p_engine.speech_llm.openai_settings import OpenAISettings

    chosen = OpenAISettings.load(table)
    offered = OpenAIServer(chosen).models(Deadline.after(chosen.connect_timeout_s))
    if chosen.model not in offered:
        raise SettingsError(f"no model {chosen.model!r} at {chosen.base_url}, but {offered}")
    return f"{chosen.model} at {chosen.base_url}"


def _retriever(directory: Path) -> str:
    missing = [name for name in RETRIEVER_FILES if not (directory / name).is_file()]
    if missing:
        raise SettingsError(f"{directory} lacks {', '.join(missing)}")
    return str(directory)


def _glossary(path: Path) -> str:
    if path.suffix == INDEX_SUFFIX:
        with safe_open(path, "np") as file:
            return f"{path}: an index with {len(list(file.keys()))} columns"
    parsed = glossary.load(path)
    if parsed.rejected:
        entry, reason = parsed.rejected[0]
        first = f"; {len(parsed.rejected)} entries are left out, the first is {entry!r}: {reason}"
    else:
        first = ""
    return f"{path}: {len(parsed.terms)} terms{first}"


def _store(path: Path) -> str:
    if path.exists():
        store = GlossaryStore(path, create=False, busy_s=1.0)
        try:
            store.check()
            return f"{path}: {len(store.glossaries())} glossaries"
        finally:
            store.close()
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingsError(f"{path} cannot be made: no permission, or no such directory")
    return f"{path} will be made"


def _certificate(certificate: Path, key: Path | None) -> str:
    expires = _expiry(certificate, key)
    left = expires - datetime.now(UTC)
    soon = ": renew it soon" if left < EXPIRES_SOON else ""
    return f"{certificate}: valid until {expires:%Y-%m-%d}, {left.days} days{soon}"


def _expiry(certificate: Path, key: Path | None) -> datetime:
    """When a certificate expires, as a client that trusts it is told in a handshake."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Without a password a key that needs one would be asked for on the terminal.
    serving.load_cert_chain(certificate, key, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there), serving.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    peer: Any = ends[0].getpeercert()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(peer["notAfter"]), UTC)


def _keys(settings: ServerSettings) -> str:
    if settings.keys_file is None:
        reach = "only this machine" if is_loopback(settings.host) else "everybody in reach"
        return f"none are asked for: {reach} may use the server"
    records = read_keys(settings.keys_file)
    valid = sum(not record.disabled and not record.expired(today_utc()) for record in records)
    return f"{settings.keys_file}: {valid} of {len(records)} keys are valid"


def _mqtt(url: str, node: str | None) -> str:
    broker = MqttSettings.from_url(url, node=node)
    return f"{broker.host}, port {broker.port}, as {broker.node}; not tried"


def _page(directory: Path) -> str:
    if not directory.is_dir():
        return f"none: {directory} is no directory"
    return str(directory)


def _port(host: str, port: int) -> str:
    listen(host, port).close()
    return f"{host}, port {port or 'any'}: free"


def _shown(value: object) -> str:
    if value is None or value in ({}, ()):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return PASSWORD_IN_URL.sub(r"\1:***@", text)
