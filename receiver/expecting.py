"""
Faxes that are expected: a company's own system tells of those it has sent, before their providers do.

So a callback that does not come is asked for, and one that lacks what the sender knows (a number, a reference) is told
with it. From the bytes of one document to rows of the store, for ``POST /jobs`` and the command line alike.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import ValidationError

from receiver import facts
from receiver.errors import Undecodable, Unprocessable
from receiver.providers.shared.decoding import json_object
from receiver.providers.shared.normalising import e164
from receiver.runtime import Account, Runtime
from receiver.store import Store, jobs, now_ms
from receiver.store.jobs import ExpectedFax, Registered
from schemas.fields import flatten
from schemas.identity import fax_id
from schemas.job import JOB

LONGEST = 64 * 1024  # bytes of one document; a job with more recipients is told in several
# A provider's redials (three, some minutes apart, where they are documented) and a long document are over by then, so
# that what is asked for an hour later is mostly what went missing.
_DUE = timedelta(hours=1)
_LONGEST_NAME = 100  # of a field in a refusal: an unknown one may be as long as the document

Key = tuple[str, ...]


def read(text: bytes) -> dict[str, Any]:
    """One document. Raises Undecodable and TooComplex."""
    try:
        text.decode()
    except UnicodeDecodeError:  # a callback's encoding is guessed; who writes for us can use UTF-8
        raise Undecodable("expected JSON in UTF-8") from None
    return json_object(text)


def check(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document as ``schemas.job`` loads it. Raises Unprocessable, naming each field."""
    try:
        job: Mapping[str, Any] = JOB.load(document)
    except ValidationError as error:
        found = flatten(error.messages)
    else:
        return job
    raise _wrong({_short(name): expected for name, expected in found.items()})


def expect(job: Mapping[str, Any], account: Account, runtime: Runtime) -> list[ExpectedFax]:
    """
    One fax for each recipient, in their order.

    job: checked. account: of its endpoint. Raises Unprocessable, naming each field.
    """
    provider, source = account.provider, account.source
    if source.account is None:
        raise _wrong({"endpoint": "expected one with an account in the configuration, which its faxes belong to"})
    now = datetime.now(UTC)
    due_at_ms = round(_due(job, now, runtime.settings.retention.ids).timestamp() * 1000)
    keys = _keys(job, account)
    known = _of_the_job(job, source.region)
    recipients = _of_the_recipients(job["recipients"] or [{}], keys, source.region)
    return [
        ExpectedFax(
            fax_id=str(fax_id(provider.name, source.account, key, runtime.identity_salt)),
            provider=provider.name,
            account=source.account,
            endpoint=account.endpoint,
            job_id=job["job_id"],
            facts=known | own,
            due_at_ms=due_at_ms,
        )
        for key, own in zip(_ranked(job, account, keys), recipients, strict=True)
    ]


def register(store: Store, faxes: Sequence[ExpectedFax]) -> dict[str, Registered]:
    """In one transaction; fax_id -> what became of it. Raises Unavailable."""
    with store.writing() as connection:
        return jobs.register(connection, store.tables, faxes, now_ms())


# --- identity ------------------------------------------------------------------------------------------------------


def _keys(job: Mapping[str, Any], account: Account) -> list[Key]:
    """Each recipient's key, the same for equal numbers."""
    provider, recipients = account.provider, job["recipients"]
    if provider.key is None:
        trouble = f"jobs of {provider.title} cannot be registered, as a fax has no id before its report"
        raise _wrong({"endpoint": f"expected another: {trouble}"})
    alone = provider.key(job["job_id"], None, 0)
    if alone is not None:  # the job's id is all there is to it: two recipients would be one fax
        if recipients is not None and len(recipients) > 1:
            raise _wrong({"recipients": f"expected one at most: a job of {provider.title} is one fax"})
        return [alone]
    if recipients is None:
        raise _wrong({"recipients": f"expected a list: a fax of {provider.title} is known by its number"})
    keys = [provider.key(job["job_id"], recipient["number"], 0) for recipient in recipients]
    expected = f"expected a number with digits, by which a fax of {provider.title} is known"
    if None in keys:
        raise _wrong({f"recipients.{index}.number": expected for index, key in enumerate(keys) if key is None})
    return [key for key in keys if key is not None]


def _ranked(job: Mapping[str, Any], account: Account, keys: Sequence[Key]) -> Iterable[Key]:
    """
    The keys with equal ones told apart, where the provider does.

    Where it does not, a number that is there twice is one fax.
    """
    assert account.provider.key is not None
    seen: Counter[Key] = Counter()
    for key, recipient in zip(keys, job["recipients"] or [{}], strict=True):
        ranked = account.provider.key(job["job_id"], recipient.get("number"), seen[key])
        assert ranked is not None
        seen[key] += 1
        yield ranked


# --- facts: dotted names -> values -----------------------------------------------------------------------------------


def _of_the_job(job: Mapping[str, Any], region: str | None) -> dict[str, Any]:
    sender, reference = job["sender"] or {}, job["reference"] or {}
    return _stated(
        {
            "sender.name": sender.get("name"),
            "sender.number": e164(sender.get("number"), region),
            "pages.total": job["pages"],
            "submitted_at": facts.timestamp(job["submitted_at"]),
            **{f"reference.{name}": value for name, value in reference.items()},
        }
    )


def _of_the_recipients(
    recipients: Sequence[Mapping[str, Any]], keys: Sequence[Key], region: str | None
) -> list[dict[str, Any]]:
    """
    In their order. Of equal numbers in one job only what is said of all of them.

    Which of them is which is told by how their calls went, and nobody knows that yet.
    """
    stated = [
        _stated(
            {
                "recipient.number": e164(recipient.get("number"), region),
                "recipient.number_raw": recipient.get("number"),
                "recipient.name": recipient.get("name"),
            }
        )
        for recipient in recipients
    ]
    common: defaultdict[Key, dict[str, Any]] = defaultdict(dict)
    for key, own in zip(keys, stated, strict=True):
        common[key] = dict(common[key].items() & own.items()) if key in common else own
    return [common[key] for key in keys]


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _due(job: Mapping[str, Any], now: datetime, kept: timedelta) -> datetime:
    """When the callback should have come; kept: how long the store waits for it."""
    due: datetime = job["due_at"] or now + (_DUE if job["due_in"] is None else job["due_in"])
    if due - now > kept:
        name = "due_in" if job["due_at"] is None else "due_at"
        raise _wrong({name: f"expected within {kept / timedelta(days=1):g} days, as long as ids are kept"})
    return due


def _wrong(fields: Mapping[str, str]) -> Unprocessable:
    return Unprocessable("the job cannot be registered as it is", fields=dict(list(fields.items())[:20]))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
