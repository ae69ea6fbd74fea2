"""Which OpenAI-compatible server writes the captions, and how it is asked.

Values come from the environment (``A2P_OPENAI_<NAME>``) or from the server's settings file, where
they stand in the table ``[engine.openai]``; the environment ranks first. The key comes from the
environment alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from a2p_engine.errors import InputError

Interface = Literal["chat", "transcriptions"]
TemplateName = Literal["qwen2-audio", "qwen3-asr", "voxtral", "generic"]
PREFIX = "A2P_OPENAI_"
KEY_VARIABLES = (f"{PREFIX}API_KEY", "OPENAI_API_KEY")
# Names of models tell which family's wording they were trained on.
FAMILIES: tuple[TemplateName, ...] = ("qwen2-audio", "qwen3-asr", "voxtral")


class OpenAISettings(BaseModel):
    """Everything about the server; build it with ``load``, which gives readable errors.

    Attributes:
        base_url: address up to and including ``/v1``.
        model: the model's name there.
        interface: ``chat`` asks ``/chat/completions`` with the audio in it; ``transcriptions`` asks
            ``/audio/transcriptions``. None takes what suits the model.
        template: wording of the chat; None takes the one of the model's family.
        continues: whether the server goes on from a text that it is given as the beginning of its
            answer; None finds out.
        prompt_tokens: most tokens of the terms in a prompt; None takes the family's.
        partial_timeout_s: how long a partial may take, which is worth nothing when it is late.
        final_timeout_s: how long a step may take that nothing will come after.
        connect_timeout_s: how long a connection may take to be made.
        retries: how often a request is made again after an error that may pass.
        max_concurrent: requests under way at the same time; others wait.
        api_key: sent as bearer token; never shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    base_url: str
    model: str = Field(min_length=1)
    interface: Interface | None = None
    template: TemplateName | None = None
    continues: bool | None = None
    prompt_tokens: int | None = Field(default=None, ge=0)
    partial_timeout_s: float = Field(default=3.0, gt=0)
    final_timeout_s: float = Field(default=20.0, gt=0)
    connect_timeout_s: float = Field(default=2.0, gt=0)
    retries: int = Field(default=3, ge=0, le=20)
    max_concurrent: int = Field(default=32, ge=1, le=1000)
    api_key: SecretStr | None = None

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("it must look like http://127.0.0.1:8000/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"a key belongs into {KEY_VARIABLES[0]}, not into the address")
        try:
            parts.hostname.encode("idna")
            sound = parts.port != 0 and url.isprintable() and " " not in url
        except ValueError:  # of the name, or of a port that is no number
            sound = False
        if not sound:
            raise ValueError("it names no valid host and port")
        return url.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value().strip() if key else ""
        if not (text.isascii() and text.isprintable()):
            raise ValueError("a key is of printable ASCII characters alone")
        return SecretStr(text) if text else None

    @classmethod
    def load(cls, table: Mapping[str, Any] | None = None) -> OpenAISettings:
        """Read the environment, and a table for what it does not say.

        Raises:
            InputError: a setting is missing, unknown or unusable.
        """
        if "api_key" in (table or {}):
            raise InputError(f"api_key: a key belongs into {KEY_VARIABLES[0]}, not into a file")
        values = {**(table or {}), **_from_environment()}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(_first_problem(error)) from None

    @property
    def asks(self) -> Interface:
        """The interface in use."""
        whisper = "whisper" in self.model.lower()
        return self.interface or ("transcriptions" if whisper else "chat")

    @property
    def wording(self) -> TemplateName:
        """The template in use."""
        if self.template is not None:
            return self.template
        for family in FAMILIES:
            if family in self.model.lower():
                return family
        return "generic"


def _from_environment() -> dict[str, Any]:
    names = [name for name in OpenAISettings.model_fields if name != "api_key"]
    found: dict[str, Any] = {
        name: text for name in names if (text := os.environ.get(f"{PREFIX}{name.upper()}"))
    }
    key = next((key for name in KEY_VARIABLES if (key := os.environ.get(name))), None)
    return found | ({"api_key": key} if key else {})


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = ", ".join(each for each in OpenAISettings.model_fields if each != "api_key")
        return f"unknown setting {name!r} of the speech LLM openai; accepted: {known}"
    variable = f"{PREFIX}{name.upper()}"
    if problem["type"] == "missing":
        return f"the speech LLM openai needs {name!r}: set {variable}, or {name} in [engine.openai]"
    return f"{variable}: {problem['msg'].removeprefix('Value error, ')}"
