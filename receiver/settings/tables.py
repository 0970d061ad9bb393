"""Reading the tables of the file: types, references, unknown keys. A refusal names file and key, never a value."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from receiver.errors import BadValue, ConfigurationError
from receiver.settings.document import Document

T = TypeVar("T")
LATER = "is not yet available in this version"


@dataclass(frozen=True, slots=True)
class Source:
    document: Document
    environ: Mapping[str, str] = field(repr=False)

    @property
    def folder(self) -> Path:
        """Where relative paths begin."""
        return self.document.folder

    def error(self, key: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.document.label}: {key}: {problem}")

    def variable(self, name: str, convert: Callable[[str], T], expected: str) -> T | None:
        """A PaaS variable; None when it is not set or empty."""
        value = self.environ.get(name)
        if not value:
            return None
        try:
            return convert(value)
        except ValueError as error:
            problem = _problem(error, expected)
            raise ConfigurationError(f"variable {name} (wins over {self.document.label}): {problem}") from None


def _problem(error: ValueError, expected: str) -> str:
    """A library's own message may quote the value."""
    return str(error) if isinstance(error, BadValue) else f"expected {expected}"


_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")


class Table:
    """
    One table of the file. Making it refuses unknown keys; its methods refuse values of a wrong type or form.

    known: the keys it may have. refused: keys we know but do not take -> why.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        values: object,
        known: Sequence[str] | None,
        *,
        refused: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.source = source
        self.name = name
        if not isinstance(values, dict):
            raise source.error(name, "expected a table")
        self.values: dict[str, Any] = values
        for key in values if known is not None else ():
            if key in refused:
                raise self.error(key, refused[key])
            if key not in (known or ()):
                raise self.error(key, f"unknown key; {_nearest(key, known or ())}")

    def key(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def error(self, key: str, problem: str) -> ConfigurationError:
        return self.source.error(self.key(key), problem)

    def table(
        self, key: str, known: Sequence[str] | None, *, refused: Mapping[str, str] = MappingProxyType({})
    ) -> "Table":
        """The table below key; empty where there is none. known None: any key."""
        return Table(self.source, self.key(key), self.values.get(key, {}), known, refused=refused)

    def text(self, key: str, *, empty_ok: bool = False) -> str | None:
        """A string, with its references resolved; None where the key is absent."""
        if key not in self.values:
            return None
        return self._resolved(key, self.values[key], empty_ok=empty_ok)

    def one(self, key: str, convert: Callable[[str], T], expected: str) -> T | None:
        """A string through convert, whose ValueError means: not as expected."""
        text = self.text(key)
        return None if text is None else self._converted(key, text, convert, expected)

    def many(self, key: str, convert: Callable[[str], T], expected: str, *, empty_ok: bool = False) -> tuple[T, ...]:
        """A list of strings, each through convert; empty where the key is absent."""
        items = self.items(key, "strings", empty_ok=empty_ok)
        return tuple(
            self._converted(place, self._resolved(place, item), convert, expected) for place, item in items.items()
        )

    def items(self, key: str, of: str, *, empty_ok: bool = False) -> dict[str, Any]:
        """The entries of a list, each under its key for messages; empty where the key is absent."""
        if key not in self.values:
            return {}
        values = self.values[key]
        if not isinstance(values, list):
            raise self.error(key, f"expected a list of {of}")
        if not values and not empty_ok:
            raise self.error(key, "expected at least one entry, or leave the key out")
        return {f"{key}[{index}]": value for index, value in enumerate(values)}

    def required(self, key: str, expected: str) -> str:
        text = self.text(key)
        if text is None:
            raise self.error(key, f"missing; expected {expected}")
        return text

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "expected true or false")
        return value

    def _converted(self, key: str, text: str, convert: Callable[[str], T], expected: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise self.error(key, _problem(error, expected)) from None

    def _resolved(self, key: str, value: object, *, empty_ok: bool = False) -> str:
        if isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str):
            text = self._from_file(key, self._substituted(key, value["file"]))
        elif isinstance(value, str):
            text = self._substituted(key, value)
        else:
            raise self.error(key, 'expected a string or { file = "…" }')
        if not text and not empty_ok:
            raise self.error(key, "expected a string that is not empty")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.error(key, "expected UTF-8")  # a variable holds bytes that are not
        return text

    def _substituted(self, key: str, text: str) -> str:
        def value_of(reference: re.Match[str]) -> str:
            name, default = reference.groups()
            if name is None:
                raise self.error(key, "expected ${NAME} or ${NAME:-default}; a value that has a ${ goes into a file")
            # As in a shell: with a default, an empty variable counts as not set.
            value = self.source.environ.get(name)
            if value is None and default is None:
                raise self.error(key, f"the variable {name} is not set, and ${{{name}}} has no default")
            return value or default or ""

        return _REFERENCE.sub(value_of, text)

    def _from_file(self, key: str, name: str) -> str:
        path = self.source.folder / name
        try:
            text = self.source.document.content(path)
        except OSError as error:
            raise self.error(key, f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self.error(key, f"{path}: expected UTF-8") from None
        except ValueError:
            raise self.error(key, "expected a file name without NUL") from None
        return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _nearest(word: str, known: Sequence[str]) -> str:
    """What may have been meant, for an error message."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
