"""Reading what can be read of a damaged table whose rows are ordered by their keys, and have no numbers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from receiver.store.sqlite import SQLITE
from receiver.store.types import Id, Pairs, Sha256

Key: TypeAlias = tuple[Any, ...]

_CHUNK = 200
_PARTS = 64  # of a gap, at whose ends a row is looked for
_DIGITS = 16  # of a text or of bytes, as digits of a number
_KINDS: dict[type, type] = {
    sa.Integer: int,
    sa.BigInteger: int,
    sa.Boolean: int,
    sa.Text: str,
    sa.LargeBinary: bytes,
    **dict.fromkeys((Id, Sha256, Pairs), bytes),
}
# All our keys are between them.
_ENDS: dict[type, tuple[Any, Any]] = {
    int: (-1, 2**63 - 1),
    str: ("", "\U0010ffff"),
    bytes: (b"", b"\xff" * 33),
}


def checked_by(columns: Sequence[sa.Column[Any]]) -> Callable[[Sequence[Any]], bool]:
    """Whether a row can be one of the table: a page of another one may have been written in its place."""
    kinds = [(*((type(None),) if one.nullable else ()), _KINDS[type(one.type)]) for one in columns]
    return lambda row: all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True))


def by_key(source: Any, table: sa.Table, names: Sequence[str]) -> Any:
    """
    Yields rows, all but those on bad pages; returns 0, or None where rows were lost and nobody can tell how many.

    Between two keys it reads from both ends up to the damage. There it looks for a row that can be read, and goes on
    from that one. Rows may be overlooked if there are few between two bad pages, or these are a table's first and last.
    """
    reader = _Reader(source, table, names)
    ends = [_ENDS[_KINDS[type(column.type)]] for column in table.primary_key]
    bottom, top = (tuple(values) for values in zip(*ends, strict=True))
    gaps: list[tuple[Key, Key]] = [(bottom, top)]
    while gaps:
        low, high = gaps.pop()
        before = yield from reader.walk(low, high)
        after = None if before is None else (yield from reader.walk(high, before))
        if before is None or after is None:
            continue
        for key in _keys_between(before, after, bottom, top):
            row = reader.first_from(key)
            if row is not None and before < reader.key(row) < after:
                yield [row]
                gaps += [(reader.key(row), after), (before, reader.key(row))]
                break
    return 0 if reader.is_whole else None


class _Reader:
    """Rows of one table in the order of its key. is_whole: no damage was met as yet, and no row of another table."""

    def __init__(self, source: Any, table: sa.Table, names: Sequence[str]) -> None:
        self.is_whole = True
        self._source = source
        self._is_ours = checked_by([table.c[name] for name in names])
        keys = [column.name for column in table.primary_key]
        self._places = [names.index(key) for key in keys]
        columns = ", ".join(f'"{name}"' for name in names)
        key, back = ", ".join(f'"{name}"' for name in keys), ", ".join(f'"{name}" DESC' for name in keys)
        marks = ", ".join("?" for _ in keys)
        query = f"SELECT {columns} FROM {table.name} WHERE ({key})"  # noqa: S608 - names of ours
        self._forwards = f"{query} > ({marks}) ORDER BY {key}"
        self._backwards = f"{query} < ({marks}) ORDER BY {back}"
        self._first = f"{query} >= ({marks}) ORDER BY {key} LIMIT 1"

    def key(self, row: Sequence[Any]) -> Key:
        return tuple(row[place] for place in self._places)

    def walk(self, start: Key, end: Key) -> Any:
        """Yields the rows between two keys; returns the last one's key before the damage, None where there is none."""
        rows: list[Any] = []
        at: Key | None = start
        is_forwards = start < end
        cursor = self._source.cursor()
        try:
            for row in cursor.execute(self._forwards if is_forwards else self._backwards, start):
                if not self._is_ours(row):
                    self.is_whole = False
                    continue
                at = self.key(row)
                # SQLite is not told where to end: rows of another table, on a page in the way, would end it there.
                if at >= end if is_forwards else at <= end:
                    break
                rows.append(row)
                if len(rows) == _CHUNK:
                    yield rows
                    rows = []
            at = None
        except (SQLITE.DatabaseError, UnicodeDecodeError):
            self.is_whole = False
        cursor.close()
        if rows:
            yield rows
        return at

    def first_from(self, key: Key) -> Any:
        """The first row that is not below the key; None where it cannot be read."""
        try:
            rows = self._source.execute(self._first, key).fetchall()
        except (SQLITE.DatabaseError, UnicodeDecodeError):
            return None
        return next(filter(self._is_ours, rows), None)


def _keys_between(low: Key, high: Key, bottom: Key, top: Key) -> Iterator[Key]:
    """Keys at which to look for a row: of each column, values near both ends and some between."""
    for at in range(len(low)):
        if low[:at] == high[:at]:
            ranges = [(low[:at], low[at], high[at])]
        else:
            ranges = [(low[:at], low[at], top[at]), (high[:at], bottom[at], high[at])]
        for same, first, last in ranges:
            for value in _values_between(first, last):
                key = (*same, value, *bottom[at + 1 :])
                if low < key < high:
                    yield key


def _values_between(low: Any, high: Any) -> Iterator[Any]:
    if isinstance(low, int):
        return _numbers_between(low, high)
    same = 0
    while low[same : same + 1] and low[same : same + 1] == high[same : same + 1]:
        same += 1
    ways = (_number_of_text, _as_text) if isinstance(low, str) else (_number_of_bytes, _as_bytes)
    number, back = ways
    return (high[:same] + back(one) for one in _numbers_between(number(low[same:]), number(high[same:])))


def _numbers_between(low: int, high: int) -> Iterator[int]:
    """Farther and farther from both, since nobody knows how wide the damage is; then evenly."""
    step = 1
    while step < high - low:
        yield low + step
        yield high - step
        step *= 2
    yield from range(low, high, max(1, (high - low) // _PARTS))


def _number_of_text(text: str) -> int:
    """Texts in their order. All our keys are ASCII, or sort as if they were."""
    number = 0
    for letter in text[:_DIGITS].ljust(_DIGITS, "\0"):
        number = number << 7 | min(ord(letter), 127)
    return number


def _as_text(number: int) -> str:
    return "".join(chr(number >> 7 * place & 127) for place in reversed(range(_DIGITS)))


def _number_of_bytes(value: bytes) -> int:
    return int.from_bytes(value[:_DIGITS].ljust(_DIGITS, b"\0"))


def _as_bytes(number: int) -> bytes:
    return number.to_bytes(_DIGITS)
