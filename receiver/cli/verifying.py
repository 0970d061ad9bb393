"""verify-consumer: what an HTTP consumer answers to all that may come."""

from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import click
import httpx

from receiver.cli import Failure, printing
from receiver.destinations import scheme
from receiver.settings import forms
from receiver.store import now_ms, rfc3339
from receiver.verifying import Finding, asking, report, samples, verify

SECRET_VARIABLE = "FAXHOOK_WEBHOOK_SECRET"  # noqa: S105 - its name


def webhook_secret(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A callback of options."""
    try:
        return None if value is None else forms.webhook_secret(value)
    except ValueError:
        raise click.BadParameter(f"expected {forms.WEBHOOK_SECRET}") from None


@click.command("verify-consumer")
@click.argument("url", metavar="URL")
@click.option(
    "--secret",
    envvar=SECRET_VARIABLE,
    required=True,
    callback=webhook_secret,
    help=f"The webhook secret that the consumer has (whsec_…); better in {SECRET_VARIABLE}.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1, max=60),
    default=10.0,
    show_default=True,
    help="How long an answer may take; a sink waits for 10.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the findings as an HTML page to this file too.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def verify_consumer(url: str, secret: str, seconds: float, report_file: Path | None, is_json: bool) -> None:
    """
    Send an HTTP consumer of yours all that may come, and look at its answers: 25 rules.

    About 200 requests, signed as a webhook sink signs them: repetitions, revisions in any order, amendments,
    conflicts, fields and words that are added later, bursts, and forged requests. It sees answers only, not what the
    consumer did. Each event has the account verify-consumer and test = true; use a consumer whose effects do not
    matter all the same. Exit code 1 where a rule does not hold.
    """
    place = _place(url)
    with closing(asking.Consumer(url, secret, seconds)) as consumer:
        (first,) = consumer.ask(consumer.request(samples.completed()))
        if first.status is None:
            raise Failure(f"{place}: {first.trouble}")
        findings = verify(consumer, (lambda _: None) if is_json else _tell)
    if report_file is not None:
        report_file.write_text(report.page(findings, place, rfc3339(now_ms())), encoding="utf-8")
    failed = sum(not one.passed for one in findings)
    if is_json:
        printing.as_json([one.as_dict() for one in findings])
    else:
        click.echo(f"{len(findings) - failed} of {len(findings)} rules hold")
    if failed:
        raise click.exceptions.Exit(1)


def _place(url: str) -> str:
    """What may be shown of the URL: its path may be a secret."""
    parts = urlsplit(url)
    if scheme(url) not in ("http", "https"):
        raise click.UsageError(
            "expected an http:// or https:// URL. The consumer of a queue answers its broker, not us: what it does is"
            " seen by sending to a queue of its own, and looking at its dead letters"
        )
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        raise click.UsageError("expected a URL such as http://localhost:3000/fax") from None
    if not parts.hostname or "@" in parts.netloc:
        raise click.UsageError("expected a URL such as http://localhost:3000/fax, without a user")
    return f"{parts.scheme}://{parts.netloc}"


def _tell(finding: Finding) -> None:
    rule = finding.rule
    if finding.passed:
        click.echo(f"passed  {rule.id}")
        return
    click.echo(f"FAILED  {rule.id}: {finding.found}\n        {rule.expected} {rule.why} ({rule.source})")
