"""
Which trace a callback belongs to, so that what comes of it is found together with what led to it.

Source: W3C Trace Context (https://www.w3.org/TR/trace-context/), and the extension of that name of CloudEvents.
"""

import re
from typing import NamedTuple

# Version 00 has these four fields, a later one may have more; all zeros are no id, and ff is no version.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<id>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?",
    re.ASCII,
)
_LONGEST = 512  # characters: far beyond what any version needs


class Trace(NamedTuple):
    """id: 32 hexadecimal digits. is_sampled: whether its beginning is recorded somewhere."""

    id: str
    is_sampled: bool


def read(header: str | None) -> Trace | None:
    """The trace that a ``traceparent`` header names; None where it is none: such a header is as good as absent."""
    if header is None or len(header) > _LONGEST:
        return None
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return Trace(found["id"], bool(int(found["flags"], 16) & 1))


def begun(receipt: str) -> Trace:
    """One for a sender that names none. Its id is that of the receipt, without hyphens, so that one finds the other."""
    return Trace(receipt.replace("-", ""), False)


def traceparent(trace: Trace, receipt: str) -> str:
    """As an event has it: the trace, and the receipt's last 16 digits as the id of our part in it."""
    return f"00-{trace.id}-{receipt.replace('-', '')[16:]}-{'01' if trace.is_sampled else '00'}"
