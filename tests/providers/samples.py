"""The samples under ``tests/fixtures``, and the way from a raw callback to its events, authentication apart."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from receiver import providers
from receiver.errors import Inbound
from receiver.providers import Provider, RawCallback, Source, decode
from schemas.event import Confidence, Failure, FailureReason, Outcome, Retryable, Verdict

FIXTURES = Path(__file__).parents[1] / "fixtures"
ACCOUNTS = {"retarus": "99999TE", "efax": "me"}
ZONES = {"efax": ZoneInfo("America/Los_Angeles")}


def callers() -> dict[str, Provider]:
    """The providers that send callbacks; from the others everything is fetched."""
    return {name: provider for name, provider in providers.load().items() if provider.callback}


def manifest() -> list[dict[str, str]]:
    with (FIXTURES / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def verdict(row: Mapping[str, str]) -> Verdict | None:
    """A row of failure_mapping.csv as a verdict; its classes ``canceled`` and ``unconfirmed`` are outcomes here."""
    if row["outcome"] == "pending":
        return None
    if row["outcome"] != "failed":
        return Verdict(Outcome(row["outcome"]))
    reason, retryable, confidence = row["failure_class"], row["retryable"], row["confidence"]
    failure = Failure(FailureReason(reason), Retryable(retryable), Confidence(confidence))
    return Verdict(Outcome.FAILED, failure)


def sample(path: str) -> RawCallback:
    """A sample by "provider/file name", with the content type that the manifest gives it."""
    provider, name = path.split("/")
    row = next(row for row in manifest() if (row["provider"], row["file"]) == (provider, name))
    body = (FIXTURES / path).read_bytes()
    if row["content_type"].startswith("(query string"):
        return RawCallback(b"", "", query=body.split(b"?", 1)[1].strip())
    return RawCallback(body, row["content_type"])


def multipart(**fields: str) -> RawCallback:
    parts = (f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{fields[name]}\r\n' for name in fields)
    return RawCallback("".join([*parts, "--x--\r\n"]).encode(), "multipart/form-data; boundary=x")


def source(provider: Provider, **changes: Any) -> Source:
    """An endpoint of the provider as the tests have it configured."""
    settings = {
        "account": None if provider.account_from_payload else ACCOUNTS.get(provider.name, "acme"),
        "timezone": ZONES.get(provider.name, ZoneInfo("America/Denver")) if provider.zoneless else None,
        "region": provider.region,
        "reference": None,
    }
    return Source(**{**settings, **changes})


def events(name: str, raw: RawCallback | bytes, **changes: Any) -> list[Any]:
    """What a provider's callback comes to: decode, schema, normalise; [] where shape says it is to be ignored."""
    provider = providers.load()[name]
    try:
        message: Mapping[str, Any] = decode(raw if isinstance(raw, RawCallback) else RawCallback(raw), provider.push)
    except Inbound:
        return []
    if not message:
        return []
    return list(provider.push.normalise(provider.push.schema.load(message), source(provider, **changes)))


def event(name: str, raw: RawCallback | bytes, **changes: Any) -> Any:
    """The one event of a callback that must have exactly one."""
    (only,) = events(name, raw, **changes)
    return only
