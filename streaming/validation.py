"""Takes JSON objects apart, key by key, with error texts that name what is wrong and accepted."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NoReturn

from streaming.errors import BadJson, ProtocolError

MAX_SHOWN_CHARS = 60


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object, without the extras that Python allows (NaN, Infinity, lone surrogates).

    Raises:
        BadJson: the text is something else.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadJson(f"not JSON: {error}"[:200]) from None
    if not isinstance(value, dict):
        raise BadJson("a text message must be a JSON object; audio goes into binary messages")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def shown(value: object) -> str:
    """The value as JSON, short enough for an error message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"


class JsonObject:
    """Values of an object by key; what nobody asked for by the time of ``done`` is an error."""

    def __init__(self, values: dict[str, Any], error: type[ProtocolError], path: str = "") -> None:
        self._values = dict(values)
        self._error = error
        self._path = path  # of the enclosing objects, with a dot at the end
        self._known: list[str] = []

    def fail(self, key: str, value: object, accepted: str) -> NoReturn:
        """Raise for a value that has the wrong type or is not offered."""
        raise self._error(f"{self._path}{key} is {shown(value)}; accepted: {accepted}")

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, unchecked."""
        self._known.append(key)
        return self._values.pop(key, default)

    def choice(self, key: str, default: Any, accepted: Collection[Any]) -> Any:
        """One of the accepted values; types must agree too, so that 1 is not true."""
        value = self.take(key, default)
        if not any(type(value) is type(item) and value == item for item in accepted):
            self.fail(key, value, ", ".join(json.dumps(item) for item in accepted))
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self.choice(key, default, (True, False)))

    def integer(self, key: str, default: int, low: int, high: int, *, or_zero: bool = False) -> int:
        """An integer from ``low`` to ``high``, or 0 where that has a meaning of its own."""
        value = self.take(key, default)
        if type(value) is not int or not (low <= value <= high or (or_zero and value == 0)):
            zero = "0 or " if or_zero else ""
            self.fail(key, value, f"{zero}an integer from {low} to {high}")
        return value

    def probability(self, key: str, default: Any, names: Collection[str]) -> Any:
        """A number from 0 to 1, or one of the names that stand for one."""
        value = self.take(key, default)
        if isinstance(value, str) and value in names:
            return value
        if type(value) not in (int, float) or not 0 <= value <= 1:
            named = ", ".join(json.dumps(name) for name in names)
            self.fail(key, value, f"a number from 0 to 1, {named}")
        return float(value)

    def text(self, key: str) -> str | None:
        """A string, or null."""
        value = self.take(key)
        if value is not None and not isinstance(value, str):
            self.fail(key, value, "a string")
        return value

    def required_text(self, key: str) -> str:
        """A string that must be there."""
        value = self.text(key)
        if value is None:
            self.fail(key, value, "a string")
        return value

    def object(self, key: str) -> JsonObject:
        """A nested object; absent is the same as empty."""
        value = self.take(key, {})
        if not isinstance(value, dict):
            self.fail(key, value, "an object")
        return JsonObject(value, self._error, f"{self._path}{key}.")

    def items(self, key: str, kinds: tuple[type, ...], accepted: str) -> tuple[Any, ...]:
        """A list of items of the given types; absent is the same as empty."""
        value = self.take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, kinds) for item in value):
            self.fail(key, value, accepted)
        return tuple(value)

    def done(self) -> None:
        """Check that every key was asked for."""
        for key in self._values:
            known = ", ".join(self._known)
            raise self._error(f"unknown key {shown(self._path + key)}; accepted: {known}")
