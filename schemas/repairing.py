"""What had to be mended before a value could be read: a closed list of words, for the receipt and a metric."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum


class Repair(StrEnum):
    """A mending that loses nothing a provider meant. None of them can make a recipient or a status."""

    AMPERSAND = "ampersand"  # of XML that begins no reference, of a form that begins no field, taken as text
    CHARSET = "charset"  # another one than is declared, or prescribed for XML and JSON
    CONTROL_CHARACTERS = "control_characters"  # left out of texts: XML cannot hold them, nor can they be shown
    PERCENT = "percent"  # a percent sign of a form that begins no escape, taken as text
    TAB = "tab"  # within a text of a record whose columns are divided by tabs
    TRAILING_NUL = "trailing_nul"  # the end of a C string, or padding, left out


class Mended(str):
    """A text that is only likely to say what was meant: it can be shown, but names no fax and no result."""

    __slots__ = ()


_found: ContextVar[set[Repair] | None] = ContextVar("repairs", default=None)


@contextmanager
def noting_repairs() -> Iterator[set[Repair]]:
    """Collect the repairs that are made inside the block."""
    found: set[Repair] = set()
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def repaired(repair: Repair) -> None:
    """Note that this was needed."""
    found = _found.get()
    if found is not None:
        found.add(repair)
