"""
What may be done now about a fax that was not delivered. Pure: a table of rules, and who looks them up.

The sources of each rule are in ``schemas/README.md``. A provider's own rules stand beside its codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.advice import RETRIES, Action, Fault, Step
from schemas.event import FailureReason, Outcome, Retryable

MINUTE, HOUR = 60, 3600
NONE, CALL = Step(Action.NONE), Step(Action.CALL_RECIPIENT)
OTHER_ROUTE, TOP_UP = Step(Action.OTHER_ROUTE), Step(Action.TOP_UP)
FIX_NUMBER, FIX_DOCUMENT = Step(Action.FIX_NUMBER), Step(Action.FIX_DOCUMENT)


def soon(after_seconds: int, max_tries: int) -> Step:
    return Step(Action.RETRY, after_seconds, max_tries)


def later(after_seconds: int, max_tries: int) -> Step:
    return Step(Action.RETRY_LATER, after_seconds, max_tries)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is advised by whether the failure is retryable. fault: None where the reason does not tell."""

    fault: Fault | None
    yes: Step
    unknown: Step
    no: Step

    @classmethod
    def always(cls, fault: Fault | None, step: Step) -> "Rule":
        return cls(fault, step, step, step)


RULES: Mapping[str, Rule] = {
    FailureReason.BUSY: Rule(Fault.RECIPIENT, soon(15 * MINUTE, 3), soon(15 * MINUTE, 1), CALL),
    FailureReason.NO_ANSWER: Rule(Fault.RECIPIENT, later(HOUR, 3), later(HOUR, 1), CALL),
    FailureReason.NOT_A_FAX: Rule(Fault.RECIPIENT, later(HOUR, 1), CALL, CALL),
    FailureReason.BAD_NUMBER: Rule.always(Fault.SENDER, FIX_NUMBER),
    FailureReason.DISCONNECTED: Rule(Fault.RECIPIENT, soon(15 * MINUTE, 2), soon(15 * MINUTE, 1), CALL),
    FailureReason.CIRCUITS_BUSY: Rule(Fault.CARRIER, soon(5 * MINUTE, 3), OTHER_ROUTE, OTHER_ROUTE),
    FailureReason.NETWORK_ERROR: Rule(Fault.CARRIER, soon(5 * MINUTE, 2), OTHER_ROUTE, OTHER_ROUTE),
    FailureReason.REJECTED: Rule(Fault.RECIPIENT, later(HOUR, 1), CALL, CALL),
    FailureReason.TRANSMISSION_ERROR: Rule(Fault.CARRIER, soon(5 * MINUTE, 2), soon(5 * MINUTE, 1), OTHER_ROUTE),
    FailureReason.INCOMPATIBLE: Rule.always(Fault.RECIPIENT, CALL),
    FailureReason.DOCUMENT_CONVERSION: Rule.always(Fault.SENDER, FIX_DOCUMENT),
    FailureReason.DOCUMENT_MISSING: Rule.always(Fault.SENDER, FIX_DOCUMENT),
    FailureReason.INVALID_REQUEST: Rule.always(Fault.SENDER, NONE),
    FailureReason.INSUFFICIENT_CREDIT: Rule.always(Fault.SENDER, TOP_UP),
    FailureReason.BLOCKED: Rule.always(Fault.RECIPIENT, NONE),
    FailureReason.EXPIRED: Rule(Fault.PROVIDER, later(HOUR, 1), later(HOUR, 1), OTHER_ROUTE),
    FailureReason.PROVIDER_ERROR: Rule(Fault.PROVIDER, soon(15 * MINUTE, 2), OTHER_ROUTE, OTHER_ROUTE),
    FailureReason.UNKNOWN: Rule(None, later(HOUR, 1), later(HOUR, 1), NONE),
    Outcome.CANCELED: Rule.always(Fault.SENDER, NONE),
    Outcome.UNCONFIRMED: Rule.always(None, CALL),
}
# What has no failure states no ``retryable`` either.
_RETRYABLE = {Outcome.CANCELED: Retryable.NO, Outcome.UNCONFIRMED: Retryable.UNKNOWN}


# Of a retry that the configuration puts in place of something else.
_UNLESS_SAID = {Action.RETRY: soon(15 * MINUTE, 1), Action.RETRY_LATER: later(HOUR, 1)}


@dataclass(frozen=True, slots=True)
class Override:
    """What the configuration says instead of a rule; None: as the rule says."""

    action: Action | None = None
    after_seconds: int | None = None
    max_tries: int | None = None
    fault: Fault | None = None

    def applied(self, step: Step) -> Step:
        action = self.action or step.action
        if action not in RETRIES:
            return Step(action)
        like = step if step.action is action else _UNLESS_SAID[action]
        return Step(action, self.after_seconds or like.after_seconds, self.max_tries or like.max_tries)


OfProvider = Mapping[FailureReason, Step]  # in place of a rule's ``yes`` and ``unknown``


class Advisor:
    """Looks up rules. of_providers: by their names. overrides: by reason or outcome."""

    def __init__(
        self, of_providers: Mapping[str, OfProvider] | None = None, overrides: Mapping[str, Override] | None = None
    ) -> None:
        self._rules: dict[tuple[str, str], Step] = {
            (provider, reason): step for provider, own in (of_providers or {}).items() for reason, step in own.items()
        }
        self._overrides = overrides or {}

    def advise(
        self, provider: str, facts: Mapping[str, Any], *, was_delivered: bool = False
    ) -> dict[str, str | int | None] | None:
        """
        ``data.advice`` for these facts of a fax; None where it is delivered.

        was_delivered: some announcement of the fax has said so, whatever holds now: then it is never sent again.
        """
        outcome, failure = facts["outcome"], facts["failure"]
        if outcome == Outcome.DELIVERED:
            return None
        if failure is None:
            reason, retryable = outcome, _RETRYABLE[outcome]
        else:
            reason, retryable = failure["reason"], failure["retryable"]
        step, fault = self._look_up(provider, reason, retryable)
        if was_delivered:
            step = CALL
        return {
            "action": step.action.value,
            "after_seconds": step.after_seconds,
            "max_tries": step.max_tries,
            "fault": fault and fault.value,
        }

    def _look_up(self, provider: str, reason: str, retryable: str) -> tuple[Step, Fault | None]:
        rule = RULES[reason]
        if retryable == Retryable.NO:
            step = rule.no
        else:
            general = rule.yes if retryable == Retryable.YES else rule.unknown
            step = self._rules.get((provider, reason), general)
        override = self._overrides.get(reason)
        if override is None:
            return step, rule.fault
        applied = override.applied(step)
        if retryable == Retryable.NO and applied.action in RETRIES:
            applied = step  # another code of the same reason may be retryable: the override is for that one
        return applied, override.fault or rule.fault


RULES_ALONE = Advisor()
