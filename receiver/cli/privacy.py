"""erase, export: what somebody may ask of those who keep their data."""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from receiver.cli import Failure, opening, printing
from receiver.cli.progress import progress
from receiver.destinations import QUEUE
from receiver.logs import last_two
from receiver.settings import Settings, secret_keys
from receiver.showing.faxes import numbers
from receiver.showing.masking import MASK
from receiver.store import Store, browsing, erasing, exporting, seeking
from receiver.store.erasing import Erased, UndeliveredError
from receiver.store.mentions import Wanted
from receiver.store.projection import digits
from receiver.store.seeking import Found, Whereabouts
from receiver.store.types import is_id
from receiver.system.batches import batches

F = TypeVar("F", bound=Callable[..., Any])

_FEWEST_DIGITS = 7  # of a number that cannot be read as one of any country
_DELIVERING_SECONDS = 120.0  # without anything going out: nobody delivers

_number = click.option("--number", help="All faxes to this number: the whole one, with its country code.")


@dataclass(frozen=True, slots=True)
class _Asked:
    """wanted: what is looked for. subject: the same for the audit, which learns no number and no reference."""

    wanted: Wanted
    subject: str


@click.command()
@opening.config_option
@_number
@click.option("--fax", "fax_id", metavar="FAX_ID", help="This fax.")
@click.option("--reference", help="All faxes with this reference of their sender.")
@click.option(
    "--undelivered",
    type=click.Choice(["send-first", "drop"]),
    help="What becomes of events that have not gone out; by default nothing is erased where there are some.",
)
@click.option("--yes", "is_meant", is_flag=True, help="Erase it. Without it everything is only counted.")
def erase(
    config: Path | None,
    number: str | None,
    fax_id: str | None,
    reference: str | None,
    undelivered: str | None,
    is_meant: bool,
) -> None:
    """
    Erase what is stored of a number, a fax, or a reference; without --yes it is only counted.

    Bodies, payloads, learned facts, registered faxes and details of discrepancies go. Ids and outcomes stay, so that a
    repeated callback is still a duplicate. Audited by a keyed hash and the last two digits.
    """
    if sum(one is not None for one in (number, fax_id, reference)) != 1:
        raise click.UsageError("expected one of --number, --fax and --reference")
    settings = opening.load(config)
    asked = _asked(settings, number, fax_id, reference)
    with opening.open_store(config) as store:
        found, its = _sought(store, asked)
        _describe(found, its, asked)
        if not found:
            raise Failure("nothing is stored of it; what is personal is kept as long as [retention] says")
        if not is_meant:
            click.echo("Nothing is erased yet; --yes erases.")
            return
        if undelivered == "send-first":
            its = _sent(store, found.faxes)
        if undelivered != "drop":
            _refuse_undelivered(its)
        _audit(store, "erase", f"{asked.subject} {_counts(found)}")
        erased = _erase(store, found, drop=undelivered == "drop")
        click.echo(f"Erased: {erased.payloads} payloads, {erased.bodies} bodies; {erased.dropped} events never go out.")
        _say_what_is_left(store)


@click.command()
@opening.config_option
@_number
def export(config: Path | None, number: str | None) -> None:
    """All that is stored of a number, as JSON, for who has asked for their data. Not masked, and audited."""
    if number is None:
        raise click.UsageError("expected --number")
    settings = opening.load(config)
    asked = _asked(settings, number, None, None)
    with opening.open_store(config) as store:
        found, _ = _sought(store, asked)
        _audit(store, "export", f"{asked.subject} {_counts(found)}")
        document = {"number": number, **exporting.document(store, found)}
    printing.as_json(document)
    if not found:
        raise Failure("nothing is stored of it; what is personal is kept as long as [retention] says")


# --- what is asked --------------------------------------------------------------------------------------------------


def _asked(settings: Settings, number: str | None, fax_id: str | None, reference: str | None) -> _Asked:
    if fax_id is not None and not is_id(fax_id.strip().lower()):
        raise click.UsageError("--fax: expected a fax_id; `faxhook fax FIND` shows it")
    if fax_id is not None:
        return _Asked(Wanted(fax_id=fax_id.strip().lower()), f"fax={fax_id.strip().lower()}")
    if reference is not None:
        return _Asked(Wanted(reference=reference), f"reference={_hash(settings, reference)}")
    assert number is not None
    wanted, whole = _numbered(settings, number)
    return _Asked(wanted, f"number={MASK}{last_two(whole) or ''} {_hash(settings, whole)}")


def _numbered(settings: Settings, number: str) -> tuple[Wanted, str]:
    """And the digits that are the same for each spelling. Raises UsageError where it may be several, or an end."""
    import phonenumbers  # late: it takes as long as the rest of the command

    known = sorted(numbers(settings, number))
    if len(known) > 1:
        raise click.UsageError(f"--number: it may be {' or '.join(known)}; expected its country code as well")
    as_given = digits(number)
    if not known and len(as_given) < _FEWEST_DIGITS:
        raise click.UsageError("--number: expected the whole number, with its country code")
    if not known:
        return Wanted(numbers=frozenset([as_given]), national=as_given), as_given
    national = phonenumbers.national_significant_number(phonenumbers.parse(known[0]))
    whole = digits(known[0])
    return Wanted(numbers=frozenset([as_given, whole]), national=national), whole


def _hash(settings: Settings, text: str) -> str:
    """By which an entry of the audit can be told to be about this, by who knows it and has the server's key."""
    secret = hmac.digest(secret_keys(settings)[0], b"privacy-audit", "sha256")
    return hmac.digest(secret, text.encode(), "sha256")[:8].hex()


def _audit(store: Store, action: str, subject: str) -> None:
    with store.writing() as connection:
        browsing.audit(connection, store.tables, action, subject)


# --- looking --------------------------------------------------------------------------------------------------------


def _sought(store: Store, asked: _Asked) -> tuple[Found, Whereabouts]:
    with progress() as tell:
        found = seeking.seek(store, asked.wanted, tell)
    return found, seeking.whereabouts(store, found.faxes)


def _counts(found: Found) -> str:
    counts = {
        "faxes": len(found.faxes),
        "registered": len(found.jobs),
        "receipts": len(found.receipts),
        "discrepancies": len(found.discrepancies),
    }
    return " ".join(f"{name}={count}" for name, count in counts.items())


def _describe(found: Found, its: Whereabouts, asked: _Asked) -> None:
    click.echo(f"{asked.subject}: {_counts(found)}")
    click.echo(f"events: {its.events}, of them {its.undelivered} undelivered and {its.dead} dead letters")
    for sink, count in sorted(its.gone_to.items()):
        where = "the queue" if sink == QUEUE else f"the sink {sink}"
        click.echo(f"Not reached: what has gone out already, of {count} event{'' if count == 1 else 's'} to {where}.")
    if found.elsewhere:
        count = len(found.elsewhere)
        click.echo(f"Not touched: {count} other fax{'' if count == 1 else 'es'} that mention it, not as the recipient:")
        for fax_id in sorted(found.elsewhere)[:10]:
            click.echo(f"  {fax_id}")


# --- undelivered events ---------------------------------------------------------------------------------------------


def _refuse_undelivered(its: Whereabouts) -> None:
    if its.undelivered or its.dead:
        raise Failure(
            f"{its.undelivered} events are undelivered and {its.dead} are dead letters: nothing is erased;"
            " --undelivered send-first waits for the former, --undelivered drop gives up both"
        )


def _sent(store: Store, fax_ids: set[str]) -> Whereabouts:
    """When they have gone out. Raises Failure where none goes for a while."""
    its = seeking.whereabouts(store, fax_ids)
    left, deadline = its.undelivered, time.monotonic() + _DELIVERING_SECONDS
    with progress() as tell:
        while its.undelivered:
            tell(f"{its.undelivered} events are still to go out")
            if its.undelivered < left:
                left, deadline = its.undelivered, time.monotonic() + _DELIVERING_SECONDS
            if time.monotonic() > deadline:
                raise Failure(f"{left} events have not gone out; is relay or consumer running? Nothing is erased.")
            time.sleep(0.5)
            its = seeking.whereabouts(store, fax_ids)
    return its


# --- erasing --------------------------------------------------------------------------------------------------------


def _erase(store: Store, found: Found, *, drop: bool) -> Erased:
    """
    The faxes last: by what is known of them the rest is found, so that an erasure that was cut short can be run again.
    """
    tables, erased = store.tables, Erased()
    for receipts in batches(sorted(found.receipts), erasing.AT_ONCE):
        with store.writing() as connection:
            erased += Erased(bodies=erasing.bodies(connection, tables, receipts))
    for fax_ids in batches(sorted(found.jobs), erasing.AT_ONCE):
        with store.writing() as connection:
            erasing.jobs(connection, tables, fax_ids)
    for seqs in batches(sorted(found.discrepancies), erasing.AT_ONCE):
        with store.writing() as connection:
            erasing.discrepancies(connection, tables, seqs)
    try:
        for fax_ids in batches(sorted(found.faxes), erasing.AT_ONCE):
            with store.writing() as connection:
                erased += erasing.faxes(connection, tables, fax_ids, drop=drop)
    except UndeliveredError:
        raise Failure("an event has come that is undelivered: what was before it is erased; run this again") from None
    return erased


def _say_what_is_left(store: Store) -> None:
    step = "`faxhook store compact`" if store.file is not None else "the VACUUM of that page"
    click.echo(f"Unused parts of the store's pages may hold copies until {step} has rewritten them. Backups do.")
    click.echo("See `Privacy requests` in deploy/README.md.")
