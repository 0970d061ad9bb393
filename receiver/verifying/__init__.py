"""
``faxhook verify-consumer``: an HTTP consumer is sent what faxhook may send, and what only others would.

Only its answers can be seen. ``rules.py`` is the table of what is expected of them.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from receiver.verifying.asking import Consumer
from receiver.verifying.rules import RULES, Rule


@dataclass(frozen=True, slots=True)
class Finding:
    """found: what was otherwise; None where the rule holds."""

    rule: Rule
    found: str | None

    @property
    def passed(self) -> bool:
        return self.found is None

    def as_dict(self) -> dict[str, Any]:
        known = asdict(self.rule)
        del known["check"]
        return {"id": known.pop("id"), "passed": self.passed, "found": self.found, **known}


def verify(consumer: Consumer, tell: Callable[[Finding], object]) -> list[Finding]:
    """Each rule in turn; tell: called with each finding as it comes."""
    findings = []
    for rule in RULES:
        findings.append(Finding(rule, rule.check(consumer)))
        tell(findings[-1])
    return findings
