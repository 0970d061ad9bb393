"""What looking at one thing has found, and its verdict."""

from dataclasses import dataclass

OK, WARNING, TROUBLE = "ok", "warning", "trouble"


@dataclass(frozen=True, slots=True)
class Finding:
    """check: what was looked at. verdict: OK, WARNING or TROUBLE. detail: a sentence without secrets."""

    check: str
    verdict: str
    detail: str
