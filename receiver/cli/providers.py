"""providers list, providers show."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from receiver import providers as known_providers
from receiver.advice import Advisor, Override
from receiver.cli import opening, printing
from receiver.cli.endpoints import audit_reveal
from receiver.contracts.answers import REFUSALS
from receiver.errors import ConfigurationError
from receiver.providers import Provider
from receiver.settings import AUTH_MODES, Endpoint, Settings
from receiver.showing.configured import callback_urls
from schemas.event import Verdict

_JSON = '{"status":"accepted|partial|duplicate|ignored","receipt":"…","events":["…"]}'

# How a Retarus-like "which authentication" field spells our modes.
_AUTH_METHODS = {"none": "NONE", "basic": "HTTP_BASIC", "digest": "HTTP_DIGEST", "oauth2": "OAUTH2"}


@click.group()
def providers() -> None:
    """What each provider sends, what its codes mean, and what to enter there."""


@providers.command("list")
@opening.config_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(config: Path | None, is_json: bool) -> None:
    """All providers this version knows."""
    rows = [
        {
            "name": provider.name,
            "title": provider.title,
            "bodies": _bodies(provider),
            "reports": _report_names(provider),
            "auth": list(_auth_modes(provider)),
            "codes": len(provider.codes.verdicts),
            "notes": provider.notes,
        }
        for provider in known_providers.load().values()
    ]
    printing.listing(("name", "title", "bodies", "auth", "reports", "codes", "notes"), rows, is_json=is_json)


@providers.command()
@click.argument("name")
@opening.config_option
@click.option("--endpoint", "endpoint_name", help="Fill in the URL and user of this endpoint.")
@click.option("--reveal", is_flag=True, help="Show its token, also where standard output is not a terminal.")
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
def show(name: str, config: Path | None, endpoint_name: str | None, reveal: bool, is_json: bool) -> None:
    """The code table, the answers, and exactly what to enter at the provider."""
    provider = known_providers.load().get(name)
    if provider is None:
        raise click.UsageError(f"unknown provider; known are {', '.join(known_providers.load())}")
    url, user, mode = f"https://<your host>/callbacks/{name}/<token>", "<user>", (*_auth_modes(provider), "none")[-1]
    answer = 200
    overrides: Mapping[str, Override] = {}
    if endpoint_name is not None:
        configured = opening.load(config)
        endpoint = _endpoint(configured, endpoint_name, provider)
        if reveal:
            audit_reveal(configured, "providers.reveal", endpoint_name)
        url = callback_urls(endpoint, configured.server, reveal=reveal or printing.is_terminal())[0]
        user = endpoint.auth.credentials[0].user if endpoint.auth.credentials else user
        mode, answer = endpoint.auth.mode, endpoint.answer
        overrides = configured.advice
    setup = provider.callback.setup if provider.callback else "It sends no callbacks; its reports are fetched.\n"
    setup = setup.replace("{url}", url).replace("{user}", user)
    described = {
        "name": provider.name,
        "title": provider.title,
        "notes": provider.notes,
        "sources": list(provider.sources),
        "bodies": _bodies(provider),
        "reports": _report_names(provider),
        "report_options": _options(provider),
        "auth": list(_auth_modes(provider)),
        "account_from_payload": provider.account_from_payload,
        "timezone_required": provider.zoneless,
        "code_field": provider.codes.field,
        "codes": list(_codes(provider, Advisor({name: provider.advice}, overrides))),
        "answers": list(_answers(provider, answer)) if provider.callback else [],
        "setup": setup.replace("{auth}", _AUTH_METHODS.get(mode, mode)),
    }
    if is_json:
        printing.as_json(described)
    else:
        _print(described)


def _endpoint(configured: Settings, name: str, provider: Provider) -> Endpoint:
    endpoint = configured.endpoints.get(name)
    if endpoint is None:
        raise ConfigurationError(f"endpoint {name} is not configured")
    if endpoint.provider != provider.name:
        raise ConfigurationError(f"endpoint {name} is for {endpoint.provider}, not for {provider.name}")
    return endpoint


def _auth_modes(provider: Provider) -> tuple[str, ...]:
    """What both sides can do, best last."""
    return tuple(mode for mode in provider.callback.auth_modes if mode in AUTH_MODES) if provider.callback else ()


def _bodies(provider: Provider) -> list[str]:
    return sorted(provider.callback.kinds) if provider.callback else []


def _report_names(provider: Provider) -> list[str]:
    reports = provider.reports
    if reports is None:
        return []
    return [*(report.name for report in reports.records), *(report.name for report in reports.aggregates)]


def _options(provider: Provider) -> list[dict[str, Any]]:
    """The keys of ``[endpoints.<name>.reports]``."""
    return [
        {"key": option.name, "required": option.default is None, "default": option.default, "meaning": option.meaning}
        for option in (provider.reports.options if provider.reports else ())
    ]


def _codes(provider: Provider, advisor: Advisor) -> Iterator[dict[str, Any]]:
    table = provider.codes
    for code, verdict in table.verdicts.items():
        yield _code(code, table.texts.get(code, ""), verdict) | {"advice": _advice(provider, verdict, advisor)}
    if table.unknown is not None:
        other = _code("any other", "not listed; counted, so that somebody looks it up", table.unknown)
        yield other | {"advice": _advice(provider, table.unknown, advisor)}


def _advice(provider: Provider, verdict: Verdict | None, advisor: Advisor) -> dict[str, Any] | None:
    if verdict is None:
        return None
    failure = verdict.failure
    said = failure and {"reason": failure.reason, "retryable": failure.retryable}
    return advisor.advise(provider.name, {"outcome": verdict.outcome, "failure": said})


def _code(code: str, text: str, verdict: Verdict | None) -> dict[str, Any]:
    failure = verdict.failure if verdict else None
    return {
        "code": code,
        "text": text,
        "outcome": verdict.outcome.value if verdict else "not final",
        "reason": failure.reason.value if failure else None,
        "retryable": failure.retryable.value if failure else None,
        "confidence": failure.confidence.value if failure else None,
    }


def _answers(provider: Provider, answer: int) -> Iterator[dict[str, Any]]:
    success = provider.push.success
    body = success.body.decode() if success is not None else _JSON
    if answer == HTTPStatus.NO_CONTENT:
        body = ""
    yield {"situation": "accepted, partial, duplicate or ignored", "status": answer, "code": None, "body": body}
    for situation, refusals in REFUSALS:
        for refusal in refusals:
            yield {"situation": situation, "status": refusal.status, "code": refusal.code, "body": "problem JSON"}


def _print(described: dict[str, Any]) -> None:
    click.echo(f"{described['title']} ({described['name']})\n{described['notes']}\n")
    click.echo(f"Codes, from {described['code_field']}:")
    codes = [code | {"advice": _words(code["advice"])} for code in described["codes"]]
    printing.table(("code", "outcome", "reason", "retryable", "advice", "confidence", "text"), codes)
    if described["answers"]:
        click.echo("\nAnswers:")
        printing.table(("status", "code", "situation", "body"), described["answers"])
    if described["report_options"]:
        click.echo(f"\nReports: {', '.join(described['reports'])}. Keys of [endpoints.<name>.reports]:")
        printing.table(("key", "required", "default", "meaning"), described["report_options"])
    click.echo(f"\nWhat to enter at {described['title']}:\n{described['setup'].rstrip()}")
    for source in described["sources"]:
        click.echo(f"Source: {source}")


def _words(advice: Mapping[str, Any] | None) -> str | None:
    if advice is None:
        return None
    if advice["after_seconds"] is None:
        return str(advice["action"])
    return f"{advice['action']} after {advice['after_seconds']} s, at most {advice['max_tries']}"
