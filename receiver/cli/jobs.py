"""jobs add, jobs import, jobs list."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from receiver import expecting
from receiver.cli import Failure, opening, printing
from receiver.errors import Refusal, Unavailable, Unprocessable
from receiver.runtime import Runtime
from receiver.showing.texts import readable
from receiver.store import jobs as stored
from receiver.store import now_ms
from receiver.store.jobs import ExpectedFax

_COLUMNS = (
    *("fax_id", "endpoint", "provider", "account", "job_id"),
    *("registered_at", "due_at", "asked", "asked_at"),
)
_NARROW = ("endpoint", "job_id", "due_at", "asked")
_BATCH = 500  # faxes in one transaction
_TOLD_EVERY = 10_000  # jobs, where nobody looks at a bar


@click.group()
def jobs() -> None:
    """The faxes that were sent and are not heard of yet."""


# --- add ------------------------------------------------------------------------------------------------------------


class _Due(click.ParamType[dict[str, str]]):
    """How long from now, or a time; without a zone it is in UTC. As the document of a job says it."""

    name = "time or period"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        if re.fullmatch("0|[0-9]+[smhd]", value):
            return {"due_in": value}
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail("expected a period such as 90m (s, m, h, d), or a time such as 2026-07-01T10:00:00Z", param, ctx)
        return {"due_at": (time.replace(tzinfo=UTC) if time.tzinfo is None else time).isoformat()}


@jobs.command()
@click.argument("endpoint")
@click.argument("job_id")
@opening.config_option
@click.option("--number", "numbers", multiple=True, help="A destination; once for each recipient.")
@click.option("--reference", help="What its event shall have as reference.id.")
@click.option("--due", type=_Due(), help="When its callback should have come: 2h, or a time.  [1h]")
def add(
    config: Path | None,
    endpoint: str,
    job_id: str,
    numbers: tuple[str, ...],
    reference: str | None,
    due: dict[str, str] | None,
) -> None:
    """Expect the faxes of one job: a line for each, with outcome and event of one that is known already."""
    document: dict[str, Any] = {"endpoint": endpoint, "job_id": job_id, "reference": {"id": reference}, **(due or {})}
    if numbers:
        document["recipients"] = [{"number": number} for number in numbers]
    with opening.open_runtime(config) as runtime:
        try:
            faxes = _expected(document, runtime)
        except Unprocessable as refusal:
            raise click.UsageError("; ".join(_lines(refusal))) from None
        registered = expecting.register(runtime.store, faxes)
    for fax_id, one in registered.items():
        told = f": {one.outcome}, event {one.event_id}" if one.state == "known" else ""
        click.echo(f"{fax_id}: {one.state}{told}")


def _expected(document: dict[str, Any], runtime: Runtime) -> list[ExpectedFax]:
    job = expecting.check(document)
    account = runtime.accounts.get(job["endpoint"])
    if account is None:
        known = ", ".join(runtime.accounts)
        raise Unprocessable("no such endpoint", fields={"endpoint": f"expected one of {known}"})
    return expecting.expect(job, account, runtime)


def _lines(refusal: Refusal) -> list[str]:
    """What is wrong, field by field. The name of one may be anything that was in the file."""
    found = [f"{name}: {expected}" for name, expected in refusal.fields.items()] or [refusal.detail]
    return [readable(line.encode("utf-8", "backslashreplace")).replace("\n", " ") for line in found]


# --- import -----------------------------------------------------------------------------------------------------------


@jobs.command("import")
@click.argument("file", type=click.File("rb"))
@opening.config_option
@click.pass_context
def import_(ctx: click.Context, file: BinaryIO, config: Path | None) -> None:
    """
    Expect the faxes of many jobs: JSON lines, each a document as POST /jobs takes it. FILE may be - for standard input.

    A line that cannot be used is named with its fields and left out, and the exit code is 1. It can be run again: what
    is registered stays as it is.
    """
    with opening.open_runtime(config) as runtime, _progress(file) as (advance, complain):
        done = _Import(runtime, complain)
        try:
            for number, line in _numbered(file):
                done.take(number, line)
                advance(number, len(line))
            done.flush()
        except Unavailable as error:
            raise Failure(f"{error.trouble}; kept are {done.kept} jobs. Run it again when it is back") from None
    states = done.states
    click.echo(
        f"{done.kept} jobs, {states.total()} faxes: {states['expected']} expected, {states['registered']} registered"
        f" before, {states['known']} known already; {done.refused} lines refused"
    )
    ctx.exit(1 if done.refused else 0)


class _Import:
    """kept: jobs that are in the store. states: of their faxes."""

    def __init__(self, runtime: Runtime, complain: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._complain = complain
        self._waiting: list[ExpectedFax] = []
        self._waiting_jobs = 0
        self.kept = 0
        self.refused = 0
        self.states: Counter[str] = Counter()

    def take(self, number: int, line: bytes) -> None:
        if not line.strip():
            return
        try:
            if len(line) > expecting.LONGEST:
                raise Unprocessable(f"expected at most {expecting.LONGEST} bytes; a long job may be told in several")
            faxes = _expected(expecting.read(line), self._runtime)
        except Refusal as refusal:
            self.refused += 1
            for wrong in _lines(refusal):
                self._complain(f"line {number}: {wrong}")
            return
        self._waiting += faxes
        self._waiting_jobs += 1
        if len(self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            registered = expecting.register(self._runtime.store, self._waiting)
            self.states.update(one.state for one in registered.values())
        self.kept += self._waiting_jobs
        self._waiting, self._waiting_jobs = [], 0


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines, from 1 on; of one that is too long only so much that it can be told."""
    number = 0
    while line := file.readline(expecting.LONGEST + 1):
        number += 1
        rest = line
        while len(line) > expecting.LONGEST and rest and not rest.endswith(b"\n"):
            rest = file.readline(expecting.LONGEST)
        yield number, line


@contextmanager
def _progress(file: BinaryIO) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """
    On stderr: a bar on a terminal, else a line now and then; and what prints a complaint beside it.

    The first is told each line's number and length.
    """
    console = Console(stderr=True)
    if not console.is_terminal:

        def tell(number: int, _size: int) -> None:
            if number % _TOLD_EVERY == 0:
                click.echo(f"{number} lines read", err=True)

        yield tell, lambda text: click.echo(text, err=True)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[lines]} lines")
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("jobs", total=_size(file), lines=0)
        yield (
            lambda number, size: progress.update(task, advance=size, lines=number),
            lambda text: progress.console.print(text, markup=False, highlight=False, soft_wrap=True),
        )


def _size(file: BinaryIO) -> int | None:
    """In bytes; None of what is no regular file."""
    try:
        path = Path(file.name)
        return path.stat().st_size if path.is_file() else None
    except (OSError, TypeError, AttributeError):
        return None


# --- list -------------------------------------------------------------------------------------------------------------


@jobs.command("list")
@opening.config_option
@click.option("--overdue", is_flag=True, help="Only those whose callback should have come.")
@printing.limit_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(config: Path | None, overdue: bool, limit: int | None, is_json: bool) -> None:
    """The faxes that are expected, the longest due first. Without numbers and names."""
    with opening.open_store(config) as store, store.reading() as connection:
        most = printing.limit(limit, is_json=is_json)
        rows = stored.listing(connection, store.tables, limit=most, overdue_at_ms=now_ms() if overdue else None)
    printing.listing(_COLUMNS, rows, is_json=is_json, narrow=_NARROW)
    printing.say_if_cut(rows, limit, is_json=is_json)
