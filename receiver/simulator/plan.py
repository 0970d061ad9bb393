"""What is said: jobs made from each provider's ``simulate`` and its code table."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from receiver.errors import ConfigurationError
from receiver.providers import RawCallback
from receiver.providers.shared.contract import CodeTable, SimulatedFax, SimulatedJob
from receiver.simulator.faults import Fault, Manner
from receiver.simulator.targets import Target
from schemas.event import FailureReason, Outcome

SUCCESS = "success"
MIXED = "mixed"  # one job to several recipients, with all kinds of results

_SEEDED_START = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CALL = timedelta(seconds=40)
_MIXED_RECIPIENTS = 4


def cases(codes: CodeTable) -> dict[str, tuple[str, ...]]:
    """
    The cases of a code table: case -> the codes its recipients get in turn.

    ``success``, ``failed`` and ``mixed``, each outcome and failure reason the table has, ``pending`` where it has a
    state that is not final, and every code by its own name.
    """
    kinds: dict[str, str] = {}
    for code, verdict in codes.verdicts.items():
        kinds.setdefault("pending" if verdict is None else verdict.outcome.value, code)
        if verdict is not None and verdict.failure is not None:
            kinds.setdefault(verdict.failure.reason.value, code)
    found: dict[str, tuple[str, ...]] = {code: (code,) for code in codes.verdicts}
    found |= {kind: (code,) for kind, code in kinds.items()}
    found[SUCCESS] = found[Outcome.DELIVERED.value]
    found[MIXED] = (*found[SUCCESS], *(kinds[kind] for kind in kinds if _is_result(kind) and kind != "delivered"))
    return found


def every_kind(codes: CodeTable) -> list[str]:
    """What ``--all`` sends: success, every reason to fail, the other outcomes, and a job to several recipients."""
    known = cases(codes)
    reasons = [reason.value for reason in FailureReason if reason.value in known]
    others = [outcome.value for outcome in (Outcome.CANCELED, Outcome.UNCONFIRMED) if outcome.value in known]
    return [SUCCESS, *reasons, *others, MIXED]


def _is_result(kind: str) -> bool:
    return kind not in ("pending", Outcome.FAILED.value)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One callback to send; is_repeated: once more when it has been answered. fault: what is wrong with it."""

    target: Target
    case: str
    raw: RawCallback
    is_repeated: bool
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to send. count: jobs of each case. repeated: a share of the callbacks (float) or their number (int).

    seed: with one, each run sends the same bytes; without, new faxes. fault: of every callback; those that cannot have
    it are left out.
    """

    targets: Sequence[Target]
    cases: Sequence[str] | None  # None: every kind
    count: int = 1
    recipients: int = 1
    repeated: float | int = 0
    seed: int | None = None
    fault: Fault | None = None

    def jobs(self) -> list[tuple[Target, str]]:
        """One round: each case at every target whose provider has it. ConfigurationError for one that none has."""
        targets = self._aimed()
        known = {target.provider.name: cases(target.provider.codes) for target in targets}
        for case in self.cases or ():
            if not any(case in of_provider for of_provider in known.values()):
                kinds = {kind for of_provider in known.values() for kind in of_provider if kind.islower()}
                raise ConfigurationError(
                    f"there is no case {case}; expected a provider's code, or {', '.join(sorted(kinds))}"
                )
        return [
            (target, case)
            for target in targets
            for case in (every_kind(target.provider.codes) if self.cases is None else self.cases)
            if case in known[target.provider.name]
        ]

    def deliveries(self) -> Iterator[Delivery]:
        """The callbacks of all rounds, made as they are asked for."""
        random = Random(secrets.randbits(64) if self.seed is None else self.seed)  # noqa: S311 - nothing secret
        number = random.randrange(10**13, 9 * 10**13)
        line = random.randrange(_LINES)
        start = datetime.now(UTC).replace(microsecond=0) if self.seed is None else _SEEDED_START
        jobs = self.jobs()
        sent = 0
        for _ in range(self.count):
            if isinstance(self.repeated, float):
                random.shuffle(jobs)  # or every second callback would always be one for the same endpoint
            for target, case in jobs:
                recipients = max(self.recipients, _MIXED_RECIPIENTS) if case == MIXED else self.recipients
                completed_at = start if self.seed is None else start + timedelta(seconds=number % 86_400)
                job = _job(target, case, recipients, number, line, completed_at)
                number += recipients
                line += recipients
                for raw in target.provider.push.simulate(job):
                    if (body := self._body(raw, target)) is None:
                        continue
                    sent += 1
                    yield Delivery(target, case, replace(raw, body=body), self._repeats(sent), self.fault)

    def _aimed(self) -> list[Target]:
        if self.fault is None:
            return list(self.targets)
        aimed = [aimed for target in self.targets if (aimed := self.fault.target(target)) is not None]
        if not aimed:
            raise ConfigurationError("there is no endpoint whose callbacks can have this fault")
        return aimed

    def _body(self, raw: RawCallback, target: Target) -> bytes | None:
        return self.fault.body(raw.body, target) if self.fault and raw.body else raw.body

    def _repeats(self, sent: int) -> bool:
        if self.fault is not None and self.fault.manner is Manner.TWICE:
            return True
        if isinstance(self.repeated, int):
            return sent <= self.repeated
        return int(sent * self.repeated) > int((sent - 1) * self.repeated)


# 555-0100 to 555-0199 are reserved for fiction, in every area code.
_AREAS, _LINES = 800, 800 * 100


def _number(line: int) -> str:
    return f"+1{200 + line // 100 % _AREAS}55501{line % 100:02d}"


def _job(target: Target, case: str, recipients: int, number: int, line: int, completed_at: datetime) -> SimulatedJob:
    codes = cases(target.provider.codes)[case]
    return SimulatedJob(
        job_id=str(number),
        account=target.account,
        faxes=tuple(
            SimulatedFax(_number(line + index), codes[index % len(codes)], f"SIM{number + index}")
            for index in range(recipients)
        ),
        submitted_at=completed_at - _CALL,
        completed_at=completed_at,
        timezone=target.timezone,
        user=target.identity.user,
        password=target.identity.password,
    )
