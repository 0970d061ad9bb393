"""Discrepancies, as ``discrepancies`` tells of them."""

from collections.abc import Mapping
from typing import Any

from receiver.showing.masking import masked_row

COLUMNS = ("id", "kind", "endpoint", "subject", "detail", "found_at", "seen_at", "closed_at", "age_seconds")


def described(found: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
    """One of them with what it is made of."""
    return {**found, "rows": found["rows"] if reveal else [masked_row(row) for row in found["rows"]]}
