"""What several providers need to make a canonical event of their own words: numbers, times, code tables."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import phonenumbers

from receiver.providers.shared.contract import CodeTable
from schemas.event import Confidence, Failure, FailureReason, Outcome, Retryable, TimeQuality, Verdict

DELIVERED = Verdict(Outcome.DELIVERED)
CANCELED = Verdict(Outcome.CANCELED)
UNCONFIRMED = Verdict(Outcome.UNCONFIRMED)

_NOT_A_DIGIT = re.compile(r"[^0-9]+", re.ASCII)
_ESCAPED = re.compile(r"\A%2(?:B|0)", re.IGNORECASE)  # a form that was escaped twice
# Nothing but digits and single marks between them: no national (0), no extension.
_PLAIN_INTERNATIONAL = re.compile(r"(?:\+|00)([0-9]+(?:[ ./-][0-9]+)*)", re.ASCII)
_INTERNATIONAL = re.compile(r"\+|00", re.ASCII)
_LETTER_BEHIND = re.compile(r"\d.*?[A-Za-z]", re.DOTALL)  # a digit
_MARKS = " +.-/\t"
_IS_POSSIBLE = phonenumbers.ValidationResult.IS_POSSIBLE
_TOO_LONG = phonenumbers.ValidationResult.TOO_LONG


def failed(reason: FailureReason, retryable: Retryable, confidence: Confidence) -> Verdict:
    return Verdict(Outcome.FAILED, Failure(reason, retryable, confidence))


# A code nobody listed: the fax is final and did not arrive; why is in the provider's own words.
UNLISTED = failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.LOW)


def table(
    field: str,
    rows: Iterable[tuple[str, Verdict | None, str]],
    *,
    unknown: Verdict | None = UNLISTED,
    spelling: Callable[[str], str] = str,
) -> CodeTable:
    """
    A code table from rows of (codes that mean the same, what they mean, what the provider calls it).

    The codes of a row are separated by blanks. A code listed twice is a mistake.
    """
    verdicts: dict[str, Verdict | None] = {}
    texts: dict[str, str] = {}
    for codes, verdict, text in rows:
        for code in codes.split():
            if code in verdicts:
                raise ValueError(f"code {code} is listed twice")
            verdicts[code], texts[code] = verdict, text
    return CodeTable(field, verdicts, texts, unknown, spelling)


def whole_number(code: str) -> str:
    """The spelling of numeric codes: "0301" and "+301" are "301". Only for what ``StatusNumber`` let through."""
    return str(int(code))


def _digits(text: str) -> str:
    bare = text.removeprefix("+")
    return bare if bare.isascii() and bare.isdecimal() else _NOT_A_DIGIT.sub("", bare)


def number_key(number: str | None) -> str:
    """
    A fax number as identity: its digits as sent, without ``(0)`` and one leading 00 or 011.

    No region and no phone number library: an id must not change with their tables.
    """
    digits = _digits((number or "").replace("(0)", ""))
    for prefix in ("00", "011"):
        if digits.startswith(prefix):
            return digits.removeprefix(prefix)
    return digits


def e164(number: str | None, region: str | None) -> str | None:
    """
    The number in E.164, or None where it cannot be told: never a reason to refuse.

    What phonenumbers would say is looked up for most numbers in international form, and asked for the others.
    """
    if number is None:
        return None
    if match := _PLAIN_INTERNATIONAL.fullmatch(number):
        digits = _digits(match[1])
        if _is_plainly_possible(digits):
            return f"+{digits}"
    return e164_by_phonenumbers(number, region)


@lru_cache(maxsize=4096)
def e164_by_phonenumbers(number: str, region: str | None) -> str | None:
    """
    ``e164`` without its table.

    A leading + or 00 is international everywhere; 011 only where North America dials it (in Leeds it is an area code).
    A leading blank is the + that a form made a blank of, unless the region has a number without it: then it is None.
    So it is where both are gone and the region has no such number. An extension is no part of it.
    """
    written = _ESCAPED.sub(lambda match: "+" if match[0].upper() == "%2B" else " ", number, count=1).replace("(0)", "")
    if written[:1].isspace() and written.strip()[:1].isdecimal():
        with_plus, without = (_e164(prefix + written.strip(), region) for prefix in ("+", ""))
        return (with_plus or without) if None in (with_plus, without) or with_plus == without else None
    found = _e164(written.strip(), region)
    # The blank may have been lost, too.
    return None if found and written.strip().isdecimal() and _has_lost_its_plus(written.strip(), region) else found


def _is_plainly_possible(digits: str) -> bool:
    """
    Whether phonenumbers takes these digits of an international number for a possible number, and changes none of them.

    That depends on the country code and the length alone, unless what follows begins as the country's national prefix,
    which may be left out or replaced. False: it is not so, or phonenumbers must be asked.
    """
    for width in (1, 2, 3):
        if plan := _plan(digits[:width]):
            return len(digits) - width in plan.lengths and not (plan.prefix and plan.prefix.match(digits[width:]))
    return False


class _Plan(NamedTuple):
    """What phonenumbers knows of a country code: the possible lengths behind it, and how a national prefix begins."""

    lengths: frozenset[int]
    prefix: re.Pattern[str] | None


@cache
def _plan(code: str) -> _Plan | None:
    """By one to three digits; None where they are no country code."""
    if not code or code[0] == "0" or int(code) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        return None
    region = phonenumbers.region_code_for_country_code(int(code))
    known = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(int(code), region)
    if known is None or known.general_desc is None:
        return None
    lengths = frozenset(known.general_desc.possible_length) - {*known.general_desc.possible_length_local_only}
    prefix = known.national_prefix_for_parsing
    return _Plan(lengths, re.compile(prefix) if prefix else None)


@lru_cache(maxsize=4096)
def country(number: str | None) -> str | None:
    """Whose a number in E.164 is, as two letters of ISO 3166; 001 for one of no country, None where nobody has it."""
    if number is None or not number[1:].isdecimal():
        return None
    for width in (2, 3, 4):  # of its country code, with the +: nearly all are of one country
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(number[1:width]), ())
        if len(regions) == 1:
            return str(regions[0])
    parsed = _parsed(number, None)
    return None if parsed is None else phonenumbers.region_code_for_number(parsed)


def is_too_long(number: str | None, region: str | None) -> bool:
    """Whether nobody in the region can have it, since it has too many digits: one with its country code, perhaps."""
    parsed = _parsed((number or "").strip(), region)
    return parsed is not None and phonenumbers.is_possible_number_with_reason(parsed) == _TOO_LONG


def _e164(written: str, region: str | None) -> str | None:
    if match := _INTERNATIONAL.match(written):
        written, region = "+" + written[match.end() :].partition("@")[0].lstrip(_MARKS), None
    parsed = _parsed(written, region)
    # Not is_possible_number: a local number without its area code passes there, and is nobody's with +1 before it.
    if parsed is None or phonenumbers.is_possible_number_with_reason(parsed) != _IS_POSSIBLE:
        return None
    # Letters that say no extension are a remark, and none of it is dialed; but North America writes digits so.
    if _LETTER_BEHIND.search(written):
        is_word = phonenumbers.is_alpha_number(written)
        if parsed.country_code != 1 if is_word else parsed.extension is None:
            return None
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def _has_lost_its_plus(number: str, region: str | None) -> bool:
    """Perhaps: the region has no such number, but it is one with its country code."""
    readings = _parsed(number, region), _parsed(f"+{number}", None)
    at_home, abroad = (parsed is not None and phonenumbers.is_valid_number(parsed) for parsed in readings)
    return abroad and not at_home


def _parsed(number: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None


def utc(time: datetime | None, zone: ZoneInfo | None) -> tuple[datetime | None, TimeQuality]:
    """
    A provider's time in UTC, and how good it is.

    time: aware, or naive in ``zone`` (UTC where there is none). In the hour a clock change repeats, the first pass is
    taken; in the hour it skips, the offset before the change.
    """
    if time is None:
        return None, TimeQuality.NONE
    if time.tzinfo is not None:
        return time.astimezone(UTC), TimeQuality.PROVIDER
    local = time.replace(tzinfo=zone or UTC)
    in_fold_or_gap = local.utcoffset() != local.replace(fold=1).utcoffset()
    return local.astimezone(UTC), TimeQuality.AMBIGUOUS if in_fold_or_gap else TimeQuality.ASSUMED_ZONE
