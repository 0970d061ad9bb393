"""Charts as they are drawn: rectangles in a box, with the numbers that stand in the table beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

_STEP, _HEIGHT, _GAP = 10, 40, 2


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    x: int
    y: float
    width: int
    height: float


@dataclass(frozen=True, slots=True)
class Bars:
    """width, height: of the box that they stand in."""

    bars: Sequence[Bar]
    width: int
    height: int
    most: float

    @property
    def total(self) -> float:
        return sum(bar.value for bar in self.bars)


def bars(values: Sequence[tuple[str, float]], most: float | None = None) -> Bars:
    """One for each value; most: as high as the box, by default the highest. What is not nothing is seen."""
    most = max((value for _, value in values), default=0) if most is None else most
    made = []
    for at, (label, value) in enumerate(values):
        height = max(1.0, round(_HEIGHT * value / most, 1)) if most and value else 0.0
        made.append(Bar(label, value, at * _STEP, _HEIGHT - height, _STEP - _GAP, height))
    return Bars(made, max(len(values) * _STEP - _GAP, 1), _HEIGHT, most)
