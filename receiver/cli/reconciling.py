"""reconcile; discrepancies list, discrepancies show, discrepancies close."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from receiver import logs
from receiver import reconcile as reconciling
from receiver.cli import Failure, opening, printing
from receiver.cli.progress import progress
from receiver.errors import ConfigurationError
from receiver.reconcile import Choice, Summary
from receiver.runtime import Account, Runtime
from receiver.showing import discrepancies as showing
from receiver.showing.texts import readable
from receiver.store import browsing, now_ms
from receiver.store import discrepancies as found
from receiver.system import streams
from receiver.system.stopping import Interrupted, Stop, on_signals

_COLUMNS = (
    *("endpoint", "provider", "rows", "faxes", "by_callback", "filled", "amended", "contradicting", "missing"),
    *("unreadable", "too_old", "tallies", "discrepancies", "credit", "requests"),
)
_NARROW = ("endpoint", "faxes", "by_callback", "filled", "amended", "missing", "contradicting", "discrepancies")
_GRACE_SECONDS = 2.0  # after SIGTERM, for a provider that does not answer


@click.command()
@opening.config_option
@click.option("--endpoint", "endpoints", multiple=True, help="Only this endpoint's account; may be repeated.")
@click.option("--since", type=opening.SINCE, help="A window of your own: a time, or how long ago (24h).")
@click.option("--until", type=opening.SINCE, help="Its end; by default now.")
@click.option("--dry-run", is_flag=True, help="Ask and compare, and write nothing.")
@click.option("--loop", is_flag=True, help="Again and again, each account as often as its reports.every says.")
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def reconcile(
    config: Path | None,
    endpoints: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    loop: bool,
    is_json: bool,
) -> None:
    """
    Fetch what was missed from the providers' reports, and say what does not add up.

    A fax seen by callback and by report is one fax: only what is new becomes an event. Exit code 1 when something is
    missing, contradicting or unreadable, or when a report could not be read to its end.
    """
    choice = Choice(endpoints, since, until, dry_run)
    if loop:
        streams.let_stdout_be_lost()  # nothing that is missing is fetched by a loop that ended with its reader
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    if loop and (dry_run or is_json or not choice.is_routine):
        raise click.UsageError("--loop goes on from the last run; leave out --since, --until, --dry-run and --json")
    if since is not None and since >= datetime.now(UTC):
        raise click.UsageError("--since must be in the past")
    with on_signals() as stop, opening.open_runtime(config) as runtime:
        accounts = _accounts(runtime, endpoints)
        try:
            with stop.interrupting(_GRACE_SECONDS):
                if loop:
                    logs.stderr.never_wait()
                    reconciling.follow(runtime, choice, stop, _told)
                    return
                summaries = _run(runtime, accounts, choice, stop)
        except Interrupted:
            if loop:
                return  # it was asked to end, and has
            raise Failure("stopped; what was stored stays, and the next run goes on") from None
    rows = [_row(summary) for summary in summaries]
    printing.listing((*_COLUMNS, "trouble") if is_json else _COLUMNS, rows, is_json=is_json, narrow=_NARROW)
    for summary in summaries:
        for trouble in summary.trouble:
            click.echo(f"faxhook: {summary.endpoint}: {trouble}", err=True)
    if stop.asked:
        raise Failure("stopped; what was stored stays, and the next run goes on")
    if not all(summary.is_good for summary in summaries):
        raise SystemExit(1)


def _accounts(runtime: Runtime, endpoints: tuple[str, ...]) -> list[Account]:
    for name in endpoints:
        account = runtime.accounts.get(name)
        if account is None:
            raise ConfigurationError(f"endpoint {name} is not configured")
        if account.reports is None:
            shown = f"faxhook providers show {account.provider.name}"
            raise ConfigurationError(f"endpoints.{name}.reports: missing; add the report credentials, see `{shown}`")
    accounts = reconciling.chosen(runtime, endpoints)
    if not accounts:
        raise ConfigurationError("no endpoint has reports; expected a table [endpoints.<name>.reports]")
    return accounts


def _run(runtime: Runtime, accounts: list[Account], choice: Choice, stop: Stop) -> list[Summary]:
    summaries = []
    for account in accounts:
        if stop.asked:
            break
        with progress() as told:

            def read(endpoint: str, report: str, rows: int, told: Callable[[str], object] = told) -> None:
                told(f"{endpoint}: {report}: {rows} rows")

            summaries.append(reconciling.reconcile(runtime, account, choice, stop, read))
    if not choice.dry_run and not stop.asked:
        reconciling.watch(runtime)
    return summaries


def _told(summary: Summary) -> None:
    counts = ", ".join(f"{name} {value}" for name in _NARROW[1:] if (value := getattr(summary, name)))
    click.echo(f"{summary.endpoint}: {counts or 'nothing'}")
    for trouble in summary.trouble:
        click.echo(f"faxhook: {summary.endpoint}: {trouble}", err=True)


def _row(summary: Summary) -> dict[str, Any]:
    row = {name: getattr(summary, name) for name in _COLUMNS}
    credit = summary.credit
    return {**row, "credit": None if credit is None else f"{credit:f}", "trouble": list(summary.trouble)}


@click.group()
def discrepancies() -> None:
    """What does not add up between the providers and us."""


@discrepancies.command("list")
@opening.config_option
@click.option("--all", "every", is_flag=True, help="Those that are closed as well.")
@printing.limit_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(config: Path | None, every: bool, limit: int | None, is_json: bool) -> None:
    """The open ones, the oldest first. Exit code 1 when there is one."""
    with opening.open_store(config) as store, store.reading() as connection:
        most = printing.limit(limit, is_json=is_json)
        rows = found.listing(connection, store.tables, limit=most, now_ms=now_ms(), closed=every)
        is_open = bool(found.open_by_kind(connection, store.tables))
    if not is_json:
        rows = [{**row, "detail": json.dumps(row["detail"], ensure_ascii=False)} for row in rows]
    printing.listing(showing.COLUMNS, rows, is_json=is_json, narrow=("id", "kind", "endpoint", "subject", "detail"))
    printing.say_if_cut(rows, limit, is_json=is_json)
    if is_open:
        raise SystemExit(1)


@discrepancies.command()
@click.argument("seq", metavar="ID", type=int)
@opening.config_option
@click.option("--reveal", is_flag=True, help="Show numbers and names as well.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
def show(seq: int, config: Path | None, reveal: bool, is_json: bool) -> None:
    """
    One discrepancy and what it is made of: calls, counts by DID and user, registered faxes.

    Numbers and names are hidden without --reveal, which is audited. They are forgotten with the bodies.
    """
    with opening.open_store(config) as store, store.writing() if reveal else store.reading() as connection:
        one = found.one(connection, store.tables, seq, now_ms())
        if one is not None and reveal:
            browsing.audit(connection, store.tables, "discrepancies.reveal", str(seq))
    if one is None:
        raise Failure(f"there is no discrepancy {seq}")
    one = showing.described(one, reveal=reveal)
    if is_json:
        printing.as_json(one)
        return
    for name, value in one.items():
        if name != "rows":
            click.echo(f"{name}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")
    for row in one["rows"]:
        text = ", ".join(f"{name} {value}" for name, value in row.items())
        click.echo(readable(f"  {text}".encode("utf-8", "backslashreplace")))


@discrepancies.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=int)
@opening.config_option
def close(ids: tuple[int, ...], config: Path | None) -> None:
    """
    Say that these have been dealt with. One that is found again is opened again.

    The faxes of a job that is missing are then no longer expected.
    """
    with opening.open_store(config) as store, store.writing() as connection:
        unknown = [one for one in ids if not found.close_one(connection, store.tables, one, now_ms())]
        for one in set(ids) - set(unknown):
            browsing.audit(connection, store.tables, "discrepancies.close", str(one))
    if unknown:
        raise Failure("there is no open discrepancy " + ", ".join(map(str, unknown)))
