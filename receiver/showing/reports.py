"""Figures of ``faxhook stats`` where each is one text."""

from collections.abc import Mapping
from typing import Any


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its costs as one text; None where none was stated."""
    costs = (f"{one['amount']} {one['currency'] or ''}".strip() for one in row["cost"])
    return {**row, "cost": ", ".join(costs) or None}
