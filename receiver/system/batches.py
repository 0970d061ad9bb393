"""Many values, as many at a time as one statement or transaction takes."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Value = TypeVar("Value")


def batches(values: Sequence[Value], most: int) -> Iterator[Sequence[Value]]:
    """In their order; none where there are no values."""
    for start in range(0, len(values), most):
        yield values[start : start + most]
