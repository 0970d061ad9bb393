"""receipts list, receipts show, receipts replay."""

import json
from datetime import datetime
from pathlib import Path

import click

from receiver.cli import Failure, opening, printing
from receiver.errors import Refusal, StoreError, Unavailable
from receiver.replay import rehearse
from receiver.replay import replay as process_again
from receiver.runtime import Runtime
from receiver.showing import receipts as showing
from receiver.store import browsing, kept_receipts
from receiver.store.kept_receipts import Chosen

_NARROW = ("id", "endpoint", "state", "reason", "received_at", "size")
_STATES = click.Choice(showing.STATES)


@click.group()
def receipts() -> None:
    """The callbacks that were kept."""


@receipts.command("list")
@opening.config_option
@click.option("--state", type=_STATES, help="Only receipts in this state.")
@click.option("--endpoint", help="Only receipts of this endpoint.")
@click.option("--provider", help="Only receipts of this provider.")
@click.option("--reason", help="Only receipts with this reason, such as unprocessable or inbound.")
@click.option("--since", type=opening.SINCE, help="Only receipts received since then.")
@click.option("--until", type=opening.SINCE, help="Only receipts received until then.")
@printing.limit_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(
    config: Path | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    is_json: bool,
    **named: str | None,
) -> None:
    """The newest receipts."""
    its = named["state"], named["endpoint"], named["provider"], named["reason"]
    chosen = Chosen(*its, opening.milliseconds(since), opening.milliseconds(until))
    with opening.open_store(config) as store, store.reading() as connection:
        most = printing.limit(limit, is_json=is_json)
        rows = kept_receipts.listing(connection, store.tables, limit=most, chosen=chosen)
    printing.listing(showing.COLUMNS, rows, is_json=is_json, narrow=_NARROW)
    printing.say_if_cut(rows, limit, is_json=is_json)


@receipts.command()
@click.argument("receipt_id", metavar="ID")
@opening.config_option
@click.option("--reveal", is_flag=True, help="Show the body as well.")
def show(receipt_id: str, config: Path | None, reveal: bool) -> None:
    """One receipt as JSON: what became of it and why. The body is hidden without --reveal, which is audited."""
    with opening.open_store(config) as store, store.writing() if reveal else store.reading() as connection:
        receipt = kept_receipts.one(connection, store.tables, receipt_id)
        if receipt is not None and reveal:
            browsing.audit(connection, store.tables, "receipts.reveal", receipt_id)
    if receipt is None:
        raise Failure(f"there is no receipt {receipt_id}")
    printing.as_json(showing.described(receipt, reveal=reveal))


@receipts.command()
@click.argument("receipt_ids", metavar="ID...", nargs=-1, required=True)
@opening.config_option
@click.option("--as", "as_endpoint", metavar="ENDPOINT", help="Process it as this endpoint, of the same provider.")
@click.option("--dry-run", is_flag=True, help="Only say what would come of it.")
@click.pass_context
def replay(
    ctx: click.Context, receipt_ids: tuple[str, ...], config: Path | None, as_endpoint: str | None, dry_run: bool
) -> None:
    """
    Process kept callbacks again, for instance after the configuration was mended.

    Their events are observed when the callback came. Exit code 1 when one is refused again or cannot be replayed.
    """
    is_trouble = False
    with opening.open_runtime(config) as runtime:
        for receipt_id in receipt_ids:
            try:
                state, told = (_foretold if dry_run else _replayed)(runtime, receipt_id, as_endpoint)
            except Unavailable:
                raise
            except Refusal as refusal:
                is_trouble = True
                click.echo(f"{receipt_id}: rejected: {refusal.code}: {refusal.detail}")
            except StoreError as error:
                is_trouble = True
                click.echo(f"{receipt_id}: {error}", err=True)
            else:
                click.echo(f"{receipt_id}: {state}{': ' if told else ''}{', '.join(told)}")
    ctx.exit(1 if is_trouble else 0)


def _replayed(runtime: Runtime, receipt_id: str, as_endpoint: str | None) -> tuple[str, list[str]]:
    """The state that it is in now, and the ids of its new events."""
    recorded = process_again(runtime, receipt_id, as_endpoint)
    return recorded.state, [event.event_id for event in recorded.told]


def _foretold(runtime: Runtime, receipt_id: str, as_endpoint: str | None) -> tuple[str, list[str]]:
    """The same as it would be. Raises the Refusal that it would meet."""
    found = rehearse(runtime, runtime.store, receipt_id, as_endpoint)
    if found.refusal is not None:
        raise found.refusal
    return f"would be {found.state}", [json.loads(payload)["id"] for payload, _ in found.events]
