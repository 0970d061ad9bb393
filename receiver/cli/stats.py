"""stats."""

import csv
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from receiver.cli import opening, printing
from receiver.showing.reports import flat
from receiver.store import now_ms, outbox
from receiver.store import stats as figures
from receiver.store.tables import PROJECTOR

_NARROW = ("faxes", "delivered", "failed", "delivered_share", "completion_p50", "callback_p95", "missed_share")


class _By(click.ParamType[tuple[str, ...]]):
    """``provider,reason``."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        unknown = [name for name in names if name not in figures.BY]
        if unknown:
            self.fail(f'expected some of {", ".join(figures.BY)}, with commas, not "{unknown[0]}"', param, ctx)
        return names


@click.command()
@opening.config_option
@click.option("--since", type=opening.SINCE, default="7d", show_default=True, help="Faxes completed since then.")
@click.option("--until", type=opening.SINCE, help="And before then; by default until now.")
@click.option("--by", type=_By(), default="provider", show_default=True, help=f"Some of {','.join(figures.BY)}.")
@printing.wide_option
@click.option("--csv", "is_csv", is_flag=True, help="As CSV, with a line of names.")
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def stats(
    config: Path | None, since: datetime, until: datetime | None, by: tuple[str, ...], is_csv: bool, is_json: bool
) -> None:
    """
    Which provider fails: outcomes, shares, durations in seconds, missed callbacks, pages and costs.

    Each fax counts once, when it was completed first; an amendment moves it from one outcome to the other there. Times
    are taken as five minutes in the last two days, and as hours before. Figures are kept for 400 days, whatever
    [retention] says of the faxes.
    """
    if is_csv and is_json:
        raise click.UsageError("expected --csv or --json, not both")
    if until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    since_ms, until_ms = opening.milliseconds(since), opening.milliseconds(until)
    assert since_ms is not None
    with opening.open_store(config) as store, store.reading() as connection:
        behind = outbox.undelivered(connection, store.tables, PROJECTOR)
        rows = figures.read(connection, store.tables, by, since_ms, now_ms(), until_ms).rows
    columns = (*by, *figures.COLUMNS)
    if is_json:
        printing.as_json(rows)
    elif is_csv:
        _write(columns, rows)
    else:
        printing.table(columns, list(map(flat, rows)), (*by, *_NARROW))
    if behind:
        click.echo(f"(the newest {behind} events do not count yet: the relay comes to them)", err=True)


def _write(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(columns)
    out.writerows(list(flat(row).values()) for row in rows)
