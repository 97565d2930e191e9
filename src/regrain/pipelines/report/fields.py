"""Reading JSON of unknown origin: every access names the type it needs, and an error names the place."""

from __future__ import annotations

import math
from collections.abc import Mapping

from regrain.core.errors import CorruptArtifactError

_HUGE = 1 << 63


class Fields:
    """A JSON object. Fields that are absent or null are None or empty; those of another type are errors.

    >>> Fields({"sizes": {"artifact": "12"}}, "receipt").part("sizes").count("artifact")
    Traceback (most recent call last):
    regrain.core.errors.CorruptArtifactError: receipt.sizes.artifact must be a number, not '12'
    """

    def __init__(self, value: Mapping[str, object], path: str) -> None:
        self._value = value
        self._path = path

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def number(self, key: str) -> float | None:
        """A finite number."""
        value = self._value.get(key)
        return None if value is None else self._finite(key, value)

    def count(self, key: str) -> int | None:
        """A whole number from 0 on."""
        number = self.number(key)
        if number is not None and (number < 0 or number != int(number)):
            raise self._wrong(key, "a whole number from 0 on", number)
        return None if number is None else int(number)

    def text(self, key: str) -> str | None:
        """A string."""
        value = self._value.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def flag(self, key: str, *, absent: bool = False) -> bool:
        """True or false."""
        value = self._value.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return absent if value is None else value

    def mapping(self, key: str) -> Mapping[str, object]:
        """An object, as it is."""
        value = self._value.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self._wrong(key, "an object", value)
        return value or {}

    def part(self, key: str) -> Fields:
        """An object."""
        return Fields(self.mapping(key), f"{self._path}.{key}")

    def parts(self, key: str) -> list[Fields]:
        """A list of objects."""
        made = []
        for index, value in enumerate(self._list(key)):
            if not isinstance(value, Mapping):
                raise self._wrong(f"{key}[{index}]", "an object", value)
            made.append(Fields(value, f"{self._path}.{key}[{index}]"))
        return made

    def named_parts(self, key: str) -> dict[str, Fields]:
        """An object of objects."""
        inner = self.part(key)
        return {name: inner.part(name) for name in self.mapping(key)}

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self._finite(f"{key}[{index}]", value) for index, value in enumerate(self._list(key)))

    def rows(self, key: str) -> list[tuple[float, ...]]:
        """A list of lists of finite numbers."""
        inner = Fields({f"{key}[{index}]": value for index, value in enumerate(self._list(key))}, self._path)
        return [inner.numbers(name) for name in inner._value]

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        inner = Fields({f"{key}[{index}]": value for index, value in enumerate(self._list(key))}, self._path)
        return tuple(inner.text(name) or "" for name in inner._value)

    def named_numbers(self, key: str) -> dict[str, float]:
        """An object of finite numbers; those that are null are left out."""
        inner = self.part(key)
        numbers = {name: inner.number(name) for name in self.mapping(key)}
        return {name: number for name, number in numbers.items() if number is not None}

    def _list(self, key: str) -> list[object] | tuple[object, ...]:
        value = self._value.get(key)
        if value is not None and not isinstance(value, list | tuple):
            raise self._wrong(key, "a list", value)
        return value or ()

    def _finite(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number", value)
        if not (math.isfinite(value) if isinstance(value, float) else abs(value) < _HUGE):
            raise self._wrong(key, "a number that is finite and below 2^63", value)
        return value

    def _wrong(self, key: str, wanted: str, value: object) -> CorruptArtifactError:
        shown = type(value).__name__ if isinstance(value, Mapping | list | tuple) else repr(value)[:80]
        return CorruptArtifactError(f"{self._path}.{key} must be {wanted}, not {shown}")
