"""One row of the report by date."""

from collections.abc import Mapping, Sequence
from typing import Any

from receiver.errors import Unprocessable
from receiver.providers.openfax.callback import account_of
from receiver.providers.openfax.codes import CODES, STATES
from receiver.providers.shared.contract import Source
from receiver.providers.shared.normalising import CANCELED, DELIVERED, UNCONFIRMED, e164
from schemas.event import FaxCompleted, Outcome, Pages, Recipient, Reference, Sender, Verdict


def normalise_detail(row: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """
    The event of one row, none while the fax is not final. A row has no time.

    CurrentState says whether the fax is final, and ``_end`` how it ended. Raises AccountMismatch for another account's
    row, and Unprocessable for a state nobody listed.
    """
    account = account_of(row["account"], source.account)
    if not STATES.lists(row["state"]):
        expected = "expected a documented state"
        raise Unprocessable("the state of a fax is not a known one", fields={STATES.field: expected})
    if STATES.verdict(row["state"]) is None:
        return []
    verdict, code, text = _end(row["state"], row["status"])
    return [
        FaxCompleted(
            account=account,
            key=(row["job_id"],),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=code,
            provider_call_id=row["call_id"],
            status_text=text,
            provider_job_id=row["job_id"],
            recipient=Recipient(number=_number(row["number"]), number_raw=row["number"], name=row["recipient_name"]),
            sender=Sender(name=row["sender_name"], number=_number(row["caller_id"])),
            pages=Pages(
                total=row["pages_total"], sent=row["pages_total"] if verdict.outcome is Outcome.DELIVERED else None
            ),
            attempts=row["attempts"],
            reference=Reference(id=source.reference),
        )
    ]


def _end(state: str, last: str | None) -> tuple[Verdict, str, str | None]:
    """
    How a final fax ended, the code that says so, and a text that tells a CurrentState 9 from a LastStatus 9.

    A LastStatus, where the row has one, says why the fax failed. But it is the result of one call, and CurrentState
    that of the fax: where only one of them says that it was delivered, nobody can tell; and a fax that was canceled
    after a busy call was canceled. A LastStatus that nobody listed is passed on, and CurrentState says how it ended.
    """
    by_state = STATES.verdict(state)
    assert by_state is not None, "the caller has asked"
    if last is None:
        return by_state, state, STATES.field
    if not CODES.lists(last):
        return by_state, last, None
    result = CODES.verdict(last)
    if result is None:  # "in processing", which a final state knows better
        return by_state, state, STATES.field
    if (by_state is DELIVERED) != (result is DELIVERED):
        return UNCONFIRMED, state, f"{STATES.field}; {CODES.field} {last}"
    if by_state is CANCELED:
        return CANCELED, state, f"{STATES.field}; {CODES.field} {last}"
    return result, last, None


def lists(event: FaxCompleted) -> bool:
    """Whether the event's code is a known one; a CurrentState always is."""
    return (event.status_text or "").startswith(STATES.field) or CODES.lists(event.status_code)


def _number(digits: str | None) -> str | None:
    """In E.164. Openfax takes numbers with their country code and without + alone, 1 being North America's."""
    return e164(digits and f"+{digits}", None)
