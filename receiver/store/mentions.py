"""Whether a fax is of somebody, and whether a stored body mentions them: for an erasure or an access request."""

import html
import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from receiver.store.projection import digits

_BETWEEN = rb"[^0-9A-Za-z]{0,6}"  # what may stand between two digits of a number, in UTF-8 or UTF-16
_LONG = 7  # digits that are hardly part of another number
_TOKEN = re.compile(rb"[0-9A-Za-z._~-]+")

Named = tuple[str, str]  # provider, and the id that it has given to a job or a fax


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Whose data: one fax, all with a reference, or all to a number.

    numbers: its digits as ``projection.digits`` writes them. national: those that each spelling of it has.
    """

    fax_id: str | None = None
    reference: str | None = None
    numbers: frozenset[str] = frozenset()
    national: str = ""

    def is_of(self, facts: Mapping[str, Any]) -> bool:
        """Whether a fax with these facts is one of them; by its recipient, not by who sent it."""
        if self.reference is not None:
            return bool((facts.get("reference") or {}).get("id") == self.reference)
        recipient = facts.get("recipient") or {}
        found = {digits(recipient.get(name)) for name in ("number", "number_raw")}
        if recipient.get("number") is None and len(self.national) >= _LONG:
            return any(one.endswith(self.national) for one in found)
        return not self.numbers.isdisjoint(found)

    def pattern(self) -> re.Pattern[bytes] | None:
        """What matches where a text mentions them, in whatever spelling; None where only ids tell."""
        if self.reference is not None:
            spellings = b"|".join(re.escape(one) for one in sorted(_spellings(self.reference), reverse=True))
            return re.compile(rb"(?<![0-9A-Za-z])(?:" + spellings + rb")(?![0-9A-Za-z])")
        if not self.national:
            return None
        number = _BETWEEN.join(bytes([one]) for one in self.national.encode())
        return re.compile(number if len(self.national) >= _LONG else rb"(?<![0-9])" + number + rb"(?![0-9])")


@dataclass(frozen=True, slots=True)
class Mentions:
    """Looks into stored bodies. named: what providers call the faxes that were found."""

    pattern: re.Pattern[bytes] | None
    named: AbstractSet[Named]

    def any_in(self, *contents: bytes | None) -> bool:
        """Whether one of these mentions the number or reference."""
        pattern = self.pattern
        return pattern is not None and any(pattern.search(_plain(one)) for one in contents if one)

    def names_one(self, provider: str, *contents: bytes | None) -> bool:
        """Whether one of these mentions a fax by an id of its provider."""
        for content in filter(None, contents):
            for token in _TOKEN.findall(_plain(content).replace(b"\0", b"")):  # without what UTF-16 adds
                if not self.named.isdisjoint({(provider, one.decode()) for one in (token, token.strip(b"._~-"))}):
                    return True
        return False


def _spellings(text: str) -> set[bytes]:
    """How a text may stand in forms, XML and JSON, ours among them, and in encodings that providers use."""
    escaped = {text, text.replace(" ", "+"), html.escape(text), html.escape(text, quote=False)}
    escaped |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    found = {one.encode(encoding, "surrogatepass") for one in escaped for encoding in ("utf-8", "utf-16-le")}
    with suppress(UnicodeEncodeError):
        found.add(text.encode("latin-1"))
    return found


def _plain(content: bytes) -> bytes:
    """As it was before it was encoded for a form."""
    return unquote_to_bytes(content) if b"%" in content else content


def named_by(provider: str, facts: Mapping[str, Any]) -> set[Named]:
    """What its provider calls this fax."""
    names = ("provider_job_id", "provider_fax_id", "provider_call_id")
    return {(provider, str(facts[name])) for name in names if facts.get(name)}
