"""Who asks for a page and what for; and what a page gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from receiver.errors import Unprocessable
from receiver.runtime import Runtime
from receiver.showing import times
from receiver.store import Store

HOME = "/console/"
ON_A_PAGE = 50
IN_CSV = 1000
_DIGITS = 19  # of a number that the databases take
VIEWER, OPERATOR, PRIVACY = "viewer", "operator", "privacy"


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """roles: at least one of them; who has any may look."""

    name: str
    roles: frozenset[str]

    def may(self, role: str) -> bool:
        return role == VIEWER or role in self.roles


@dataclass(frozen=True, slots=True)
class Visit:
    """
    One request of somebody who has signed in. args: of the URL. form: what was posted, once it is known to be meant.

    token: what a form must bring back.
    """

    runtime: Runtime
    person: Person
    path: str
    args: Mapping[str, str]
    token: str
    wants_csv: bool = False
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """How many rows a list has at most."""
        return IN_CSV if self.wants_csv else ON_A_PAGE

    @property
    def store(self) -> Store:
        """For reading: its statements end after two seconds."""
        assert self.runtime.reader is not None
        return self.runtime.reader

    def arg(self, name: str) -> str | None:
        """None where it is absent or empty: a form sends its empty fields too."""
        return self.args.get(name, "").strip() or None

    def chosen(self, *names: str) -> dict[str, str]:
        """Those of the arguments that are given."""
        return {name: value for name in names if (value := self.arg(name)) is not None}

    def milliseconds(self, name: str) -> int | None:
        """Raises Unprocessable for what is no time."""
        text = self.arg(name)
        try:
            return None if text is None else _milliseconds(times.instant(text))
        except ValueError:
            raise Unprocessable(f"{name}: expected {times.EXPECTED}") from None

    def number(self, name: str) -> int | None:
        text = self.arg(name)
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) < _DIGITS):
            raise Unprocessable(f"{name}: expected a number")
        return None if text is None else int(text)

    def choice(self, name: str, known: Sequence[str]) -> str | None:
        """One of some words, or None. Raises Unprocessable for another."""
        text = self.arg(name)
        if text is not None and text not in known:
            raise Unprocessable(f"{name}: expected one of {', '.join(known)}")
        return text

    def place(self, name: str) -> tuple[int, str] | None:
        """Where a list goes on: a number and a word, as ``place`` has written them."""
        number, point, word = (self.arg(name) or "").partition(".")
        if not number and not point:
            return None
        if not (number.isascii() and number.isdecimal() and len(number) < _DIGITS and word):
            raise Unprocessable(f"{name}: expected a link of this console; begin again without it")
        return int(number), word

    def chips(self, *names: str) -> list[tuple[str, str, str]]:
        """What narrows a list: name, value, and the page without it."""
        given = self.chosen(*names)
        return [
            (name, value, self.link(**{name: None, "before": None, "after": None, "done": None}))
            for name, value in given.items()
        ]

    def link(self, **changed: object) -> str:
        """This page with other arguments; None takes one away."""
        args = {**self.args, **{name: None if value is None else str(value) for name, value in changed.items()}}
        return link(self.path, **args)


def link(path: str, **args: object) -> str:
    given = {name: str(value) for name, value in args.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def first_of(rows: Sequence[T], most: int) -> tuple[list[T], bool]:
    """So many of them, and whether there are more; to be asked for one more than is shown."""
    return list(rows[:most]), len(rows) > most


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Shown:
    """
    A page: its template with what is in it, and the object that the command line prints of the same.

    rows: what CSV has, by columns; None: there is none.
    """

    template: str
    title: str
    document: Any
    values: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Sequence[Mapping[str, Any]] | None = None
    status: int = 200


@dataclass(frozen=True, slots=True)
class Download:
    """A file for the person who has asked for it."""

    name: str
    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The answer is at another path of ours."""

    path: str
