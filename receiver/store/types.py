"""
How ids and digests stand in the tables: text in Python, in the database as few bytes as they have.

The pages that a fax takes are most of what it costs, on the disk and in a commit, and text would be twice as long.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import UUID, LargeBinary
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

_NONE = bytes(16)  # no id's


@lru_cache(maxsize=8192)  # a fax's ids are bound ten times while it is recorded
def packed(text: str) -> bytes:
    """A UUID as its sixteen bytes."""
    return bytes.fromhex(text.replace("-", ""))


def unpacked(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: str) -> bool:
    """Whether it can be the id of anything: what a person has typed need not."""
    try:
        return unpacked(packed(text)) == text
    except ValueError:
        return False


class Id(TypeDecorator[str]):
    """A UUID in lower case with hyphens: sixteen bytes in SQLite, ``uuid`` in PostgreSQL."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return UUID(as_uuid=False) if dialect.name == "postgresql" else LargeBinary(16)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else packed(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return value if value is None or dialect.name == "postgresql" else unpacked(value)


class Sha256(TypeDecorator[str]):
    """A digest in hexadecimal: thirty-two bytes."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> bytes | None:
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: bytes | None, _dialect: Dialect) -> str | None:
        return None if value is None else value.hex()


Pair = tuple[str, str | None]


class Pairs(TypeDecorator[Sequence[Pair]]):
    """Faxes, each with the event that was made of it or None: thirty-two bytes a fax."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Sequence[Pair] | None, _dialect: Dialect) -> bytes | None:
        return None if value is None else pack_pairs(value)

    def process_result_value(self, value: bytes | None, _dialect: Dialect) -> list[Pair] | None:
        return None if value is None else unpack_pairs(value)


def pack_pairs(pairs: Sequence[Pair]) -> bytes:
    return b"".join(packed(fax_id) + (packed(event_id) if event_id else _NONE) for fax_id, event_id in pairs)


def unpack_pairs(value: bytes) -> list[Pair]:
    found = []
    for at in range(0, len(value), 32):
        event_id = value[at + 16 : at + 32]
        found.append((unpacked(value[at : at + 16]), None if event_id == _NONE else unpacked(event_id)))
    return found


def for_driver(kind: TypeEngine[Any], dialect: str) -> Callable[[Any], Any] | None:
    """What the driver's own cursor takes for a value of this type; None: the value itself."""
    ways: dict[type, Callable[[Any], Any]] = {Sha256: bytes.fromhex, Pairs: pack_pairs}
    if dialect == "sqlite":
        ways[Id] = packed
    return ways.get(type(kind))


def from_driver(kind: TypeEngine[Any], dialect: str) -> Callable[[Any], Any] | None:
    """And back. psycopg gives objects for the ids of PostgreSQL."""
    ways: dict[type, Callable[[Any], Any]] = {Sha256: bytes.hex, Pairs: unpack_pairs}
    ways[Id] = unpacked if dialect == "sqlite" else str
    return ways.get(type(kind))
