"""``faxhook simulate``: what providers would send, at the server that runs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from receiver import providers, simulator
from receiver.cli import opening
from receiver.errors import ConfigurationError
from receiver.settings import AUTH_MODES, NoConfiguration, Settings
from receiver.simulator import CLIENT_SECRET, FAULTS, TOKEN, Plan, Reply, Report, Tokens


class _Repetitions(click.ParamType[float | int]):
    """A share such as 0.1, or a number of callbacks."""

    name = "share or number"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        if not isinstance(value, str):
            return value
        try:
            number = float(value) if "." in value else int(value)
        except ValueError:
            number = -1
        if number < 0 or (isinstance(number, float) and number > 1):
            self.fail("expected a share from 0.0 to 1.0, or a number of callbacks", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line says; ``faxhook simulate --help`` tells what each means."""

    # which endpoints are called, and as whom
    provider: str | None
    endpoint: str | None
    to: str | None
    auth: str | None
    token_url: str | None
    client_id: str | None
    # what is sent
    every: bool
    case_: str | None
    count: int
    recipients: int
    duplicate: float | int
    fault: str | None
    seed: int | None
    # how fast
    rate: float | None
    parallel: int


@click.command()
@opening.config_option
@click.argument("provider", required=False)
@click.option("--endpoint", metavar="NAME", help="This endpoint only.")
@click.option("--all", "every", is_flag=True, help="Success, every reason to fail, other outcomes, several recipients.")
@click.option(
    "--case", "case_", metavar="CASE", help="success, failed, mixed, pending, a reason, an outcome or a code."
)
@click.option("--to", metavar="URL", help="The whole address of one endpoint; may hold user:password@.")
@click.option("--count", type=click.IntRange(1), default=1, help="Jobs of each case at each endpoint.  [1]")
@click.option("--recipients", type=click.IntRange(1, 50_000), default=1, help="Recipients of each job.  [1]")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Callbacks a second.")
@click.option("--parallel", type=click.IntRange(1, 500), default=1, help="Callbacks at once.  [1]")
@click.option("--duplicate", type=_Repetitions(), default=0, help="Send this share, or so many, twice.")
@click.option("--auth", type=click.Choice(list(AUTH_MODES)), help="How to show who calls.  [the endpoint's own mode]")
@click.option("--token-url", metavar="URL", help=f"oauth2: fetch tokens here; the secret is in {CLIENT_SECRET}.")
@click.option("--client-id", metavar="ID", help=f"oauth2: as this client. Or give a token in {TOKEN}.")
@click.option("--fault", type=click.Choice(list(FAULTS)), help="Send what must be refused.")
@click.option("--seed", type=int, help="The same callbacks in each run, ids and times too.")
def simulate(config: Path | None, **options: Any) -> None:
    """
    Send callbacks as PROVIDER would, with each endpoint's own credentials.

    Without a provider or endpoint, one success goes to each configured endpoint. Exit code 1 unless every answer is a
    2xx, and every repetition is recognised; with a fault, unless every answer is the refusal it must get.
    """
    given = _Options(**options)
    if given.every and given.case_:
        raise click.UsageError("--all sends every case; leave out --case")
    if given.fault and given.duplicate:
        raise click.UsageError("--duplicate repeats what is accepted; leave out --fault")
    try:
        settings = opening.load(config)
    except NoConfiguration:
        if given.provider is None or given.to is None:
            raise
        settings = None
    report = _send(_plan(given, settings), given)
    if not report.sent and not report.is_cut:
        raise ConfigurationError("no callback of these endpoints can have this fault")
    for line in summary(report):
        click.echo(line)
    if report.is_cut or report.good < report.sent:
        raise SystemExit(1)


def _plan(given: _Options, settings: Settings | None) -> Plan:
    tokens = Tokens(given.token_url, given.client_id, os.environ.get(CLIENT_SECRET), os.environ.get(TOKEN))
    where = {"provider": given.provider, "endpoint": given.endpoint, "to": given.to}
    return Plan(
        targets=simulator.targets(settings, providers.load(), **where, mode=given.auth, tokens=tokens),
        cases=None if given.every else [given.case_ or simulator.SUCCESS],
        count=given.count,
        recipients=given.recipients,
        repeated=given.duplicate,
        seed=given.seed,
        fault=FAULTS[given.fault] if given.fault else None,
    )


def _send(plan: Plan, given: _Options) -> Report:
    total = len(plan.jobs()) * given.count

    def send(told: Callable[[Reply], object]) -> Report:
        return simulator.send(plan, rate=given.rate, parallel=given.parallel, told=told)

    console = Console()
    if not console.is_terminal:
        return send(lambda reply: click.echo(line(reply)))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("callbacks", total=total)

        def told(reply: Reply) -> None:
            # A job may be several callbacks, and then there are more of them than jobs.
            known = progress.tasks[task]
            progress.update(task, advance=1, total=max(known.total or 0, known.completed + 1))
            if not reply.is_good:
                progress.console.print(line(reply), markup=False, highlight=False)

        return send(told)


def line(reply: Reply) -> str:
    """One callback: endpoint, case, answer, time. Never its address, which holds the token."""
    again = " again" if reply.is_copy else ""
    answer = _answer(reply.status, reply.word)
    missed = ""
    if reply.expected is not None and not reply.is_good:
        missed = f"  (expected {reply.expected})"
    elif 200 <= reply.status < 300 and not reply.is_good:
        missed = "  (not recognised as a repetition)"
    target, case = reply.delivery.target, reply.delivery.case
    return f"{target.endpoint} {case}{again}: {answer}, {reply.milliseconds:.1f} ms{missed}"


def _answer(status: int, word: str) -> str:
    return f"{status} {word}".rstrip() if status else f"no answer: {word}"


def summary(report: Report) -> list[str]:
    """What was sent, the answers, and how long they took."""
    accepted = report.accepted()
    rate = report.sent / report.seconds if report.seconds else 0.0
    answers = [f"{count} x {_answer(status, word)}" for (status, word), count in sorted(report.answers.items())]
    counts = f"sent {report.sent}, 2xx {accepted}, others {report.sent - accepted}"
    times = f"p50 {report.percentile(0.5):.1f} ms, p99 {report.percentile(0.99):.1f} ms"
    return [
        f"{counts} in {report.seconds:.1f} s ({rate:.0f}/s), {times}",
        "answers: " + ", ".join(answers),
        *([f"repetitions not recognised: {report.missed}"] if report.missed else []),
        *(["stopped before the end"] if report.is_cut else []),
    ]
