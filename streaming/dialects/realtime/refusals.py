"""What is wrong with a client's message, in the terms of an OpenAI ``error`` event."""

from __future__ import annotations

from typing import Any, NoReturn

from streaming.errors import BadCommand
from streaming.validation import JsonObject, shown

INVALID_REQUEST = "invalid_request_error"


class Refused(BadCommand):
    """A message is not understood or not possible now; the session goes on without it.

    Attributes:
        code: what kind of trouble, for programs.
        param: path of the value in the client's message, such as ``session.audio.input.format``.
    """

    def __init__(self, message: str, *, code: str = "invalid_value", param: str | None = None):
        super().__init__(message)
        self.code = code
        self.param = param


class Fields(JsonObject):
    """Values of an object of the client; trouble with one of them names its path."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        super().__init__(values, Refused, path)
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def fail(self, key: str, value: object, accepted: str) -> NoReturn:
        """Refuse a value."""
        param = self.path + key
        raise Refused(f"{param} is {shown(value)}; accepted: {accepted}", param=param)

    def done(self) -> None:
        """Refuse values that nobody asked for."""
        for key in self._values:
            param = self.path + key
            raise Refused(
                f"unknown parameter {shown(param)}; accepted: {', '.join(self._known)}",
                code="unknown_parameter",
                param=param,
            )

    def section(self, key: str) -> Fields | None:
        """A nested object; None for null."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fail(key, value, "an object or null")
        return Fields(value, f"{self.path}{key}.")

    def required(self, key: str) -> Fields:
        """A nested object that must be there.

        Raises:
            Refused: it is not.
        """
        section = self.section(key)
        if section is None:
            param = self.path + key
            raise Refused(
                f"{param} is missing; accepted: an object",
                code="missing_required_parameter",
                param=param,
            )
        return section
