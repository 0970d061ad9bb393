"""Times as people give them: a day, an instant, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

EXPECTED = "a time such as 2026-11-21T10:00:00Z, or a period such as 24h (s, m, h, d)"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def instant(text: str) -> datetime:
    """
    ``2026-11-21``, ``2026-11-21T10:00:00Z``, or how long ago: ``90m``, ``24h``, ``7d``; in UTC, also without a zone.

    Raises ValueError for anything else.
    """
    period = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    try:
        if period:
            return datetime.now(UTC) - timedelta(seconds=int(period[1]) * _SECONDS[period[2]])
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError from None
