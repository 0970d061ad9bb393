"""fax FIND, fax show, fax list, reference."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from receiver.cli import Failure, opening, printing
from receiver.settings import Filter, Settings, secret_keys
from receiver.showing import events
from receiver.showing import faxes as showing
from receiver.showing.texts import readable
from receiver.store import Store, browsing, finding
from receiver.store.finding import Found
from receiver.store.projection import Keys

_NARROW = ("fax_id", "provider", "outcome", "reason", "state", "number", "seen_at")
_OUTCOMES = click.Choice(events.OUTCOMES)
_STATES = click.Choice(events.STATES)
_SEVERAL = 100  # events that are looked at to see whether they are of one fax
_FILTERS = ("provider", "endpoint", "outcome")
_NONE = "there is no such fax; personal data can be searched as long as [retention] bodies"

_reveal = click.option("--reveal", is_flag=True, help="Show numbers, names and references as well; audited.")
_json = click.option("--json", "is_json", is_flag=True, help="JSON.")


class _Finds(click.Group):
    """``fax FIND`` is ``fax find FIND``: a word that names no command is what to look for."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["find", *args])


@click.group(cls=_Finds)
def fax() -> None:
    """
    What happened to a fax: faxhook fax FIND.

    FIND is a fax_id, the provider's id of a job or fax, an event's or receipt's id, the sender's reference, or a number
    in any spelling, also its last digits (at least 4). One hit is shown with its history, several as a table.
    """


@fax.command(hidden=True)
@click.argument("text", metavar="FIND")
@opening.config_option
@_reveal
@printing.limit_option
@printing.wide_option
@_json
def find(text: str, config: Path | None, reveal: bool, limit: int | None, is_json: bool) -> None:
    """What is known of a fax by an id, a number, or a reference."""
    settings = opening.load(config)
    keys = Keys(secret_keys(settings))
    with opening.open_store(config) as store:
        found = showing.search(store, settings, keys, text.strip(), printing.limit(limit, is_json=is_json))
        single = found.rows[0]["fax_id"] if len(found.rows) == 1 else ""
        _audit(store, reveal, "fax.reveal" if single else "fax.find", single)
        if len(found.rows) == 1:
            _show(store, found.rows[0]["fax_id"], reveal=reveal, is_json=is_json)
    if len(found.rows) != 1:
        _listed(found, limit, reveal=reveal, is_json=is_json)
    elif found.notes:
        _say(found)
    if not found.rows:
        raise Failure(_NONE)


def the_one(store: Store, settings: Settings, text: str) -> str:
    """The fax_id of the fax that this text names. Raises Failure where it names none, or several."""
    found = showing.search(store, settings, Keys(secret_keys(settings)), text.strip(), _SEVERAL)
    if not found.rows:
        raise Failure(_NONE)
    if len(found.rows) > 1:
        raise Failure("several faxes are named so; `faxhook fax FIND` lists their fax_ids")
    return str(found.rows[0]["fax_id"])


@fax.command()
@click.argument("fax_id", metavar="FAX_ID")
@opening.config_option
@_reveal
@_json
def show(fax_id: str, config: Path | None, reveal: bool, is_json: bool) -> None:
    """The whole history of one fax, in the order of time. Numbers and names are hidden without --reveal."""
    with opening.open_store(config) as store:
        _audit(store, reveal, "fax.reveal", fax_id)
        _show(store, fax_id, reveal=reveal, is_json=is_json)


def _show(store: Store, fax_id: str, *, reveal: bool, is_json: bool) -> None:
    found = showing.read(store, fax_id)
    if found is None:
        raise Failure(f"there is no fax {fax_id}")
    document = showing.described(found, reveal=reveal)
    if is_json:
        printing.as_json(document)
        return
    for name, value in found.fax.items():
        click.echo(f"{name}: {_text(value)}")
    for name, value in (document["facts"] or {}).items():
        if name not in found.fax:
            click.echo(f"{name}: {_text(value)}")
    click.echo()
    for step in document["history"]:
        detail = ", ".join(f"{name} {_text(value)}" for name, value in step.items() if _is_told(name, value))
        click.echo(f"{step['at']}  {step['what']:<12} {detail}".rstrip())
    for gap in found.gaps:
        click.echo(f"({gap})")


def _is_told(name: str, value: Any) -> bool:
    return name not in ("at", "what") and value not in (None, [], "")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        value = {name: one for name, one in value.items() if one is not None}
        text = ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    elif isinstance(value, list):
        text = " ".join(map(_text, value))
    else:
        text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    return readable(text.encode("utf-8", "backslashreplace"))


@fax.command("list")
@opening.config_option
@click.option("--since", type=opening.SINCE, help="Only faxes with news since then.")
@click.option("--until", type=opening.SINCE, help="Only faxes without news since then.")
@click.option("--provider", help="Only faxes of this provider.")
@click.option("--endpoint", help="Only faxes of this endpoint.")
@click.option("--outcome", type=_OUTCOMES, help="Only faxes with this outcome.")
@click.option("--reason", help="Only failures with this reason, such as busy.")
@click.option("--state", type=_STATES, help="Only faxes whose newest event is in this state.")
@_reveal
@printing.limit_option
@printing.wide_option
@_json
def list_(
    config: Path | None,
    since: datetime | None,
    until: datetime | None,
    reveal: bool,
    limit: int | None,
    is_json: bool,
    **chosen: str | None,
) -> None:
    """The faxes with the newest results."""
    only = Filter(**{name: (value,) for name in _FILTERS if (value := chosen[name]) is not None})
    with opening.open_store(config) as store:
        _audit(store, reveal, "fax.list")
        with store.reading() as connection:
            found = finding.newest(
                connection,
                store.tables,
                printing.limit(limit, is_json=is_json),
                since_ms=opening.milliseconds(since),
                until_ms=opening.milliseconds(until),
                only=only,
                reason=chosen["reason"],
                state=chosen["state"],
            )
    _listed(found, limit, reveal=reveal, is_json=is_json)


@click.command()
@click.argument("reference", metavar="ID")
@opening.config_option
@_reveal
@printing.limit_option
@printing.wide_option
@_json
def reference(reference: str, config: Path | None, reveal: bool, limit: int | None, is_json: bool) -> None:
    """
    All faxes of one business reference, of whatever provider.

    Exit code 0 when one of them is delivered, so that the matter is closed; 1 when none is.
    """
    settings = opening.load(config)
    keys = Keys(secret_keys(settings))
    with opening.open_store(config) as store:
        _audit(store, reveal, "reference.find")
        found = showing.of_reference(store, keys, reference, printing.limit(limit, is_json=is_json))
    _listed(found, limit, reveal=reveal, is_json=is_json)
    if not any(row["outcome"] == "delivered" for row in found.rows):
        raise Failure("no fax of this reference is delivered" if found.rows else "there is no fax of this reference")


def _listed(found: Found, limit: int | None, *, reveal: bool, is_json: bool) -> None:
    rows = showing.shown(found, reveal=reveal)
    if rows or is_json:
        printing.listing(showing.COLUMNS, rows, is_json=is_json, narrow=_NARROW)
    printing.say_if_cut(rows, limit, is_json=is_json)
    _say(found)


def _say(found: Found) -> None:
    for note in found.notes:
        click.echo(f"({note})", err=True)


def _audit(store: Store, reveal: bool, action: str, subject: str = "") -> None:
    """subject: an id of ours at most, since what was looked for may be a number."""
    if reveal:
        with store.writing() as connection:
            browsing.audit(connection, store.tables, action, subject)
