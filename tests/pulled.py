"""A provider's stand-in, and a house that takes its callbacks and asks for its reports."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from house import TOKEN, House, house
from standins import efax, faxage, openfax, openfax_broadcast, retarus
from standins.world import SentFax, Service, World, some_faxes, standing

from receiver import reconcile
from receiver.reconcile import Choice, Summary
from receiver.store import discrepancies, jobs, kept_receipts, now_ms
from receiver.store.jobs import ExpectedFax
from receiver.system.stopping import Stop
from schemas.identity import fax_id


@dataclass(frozen=True)
class At:
    """A provider as these tests have it configured. options: lines below its reports, ``{url}`` the stand-in's."""

    provider: str
    account: str
    zone: str
    application: Callable[[World], Service]
    options: str
    auth: str = 'auth = { mode = "none" }'
    calls: bool = True  # whether it has callbacks
    by_job: bool = False  # whether its report names registered jobs only


CALL = timedelta(seconds=53)
PASSWORD = "example-password"
LOGIN = f'user = "exampleuser"\npassword = "{PASSWORD}"\n'
PROVIDERS = {
    one.provider: one
    for one in (
        At(
            "openfax",
            "123456789",
            "UTC",
            openfax.application,
            'api_key = "IEYRtw2cd8aGa54"\nurl = "{url}"\n',
        ),
        At(
            "openfax-broadcast",
            "123456789",
            "UTC",
            openfax_broadcast.application,
            'api_key = "broadcast-key"\nurl = "{url}/api/reporting.asmx"\n',
            calls=False,
        ),
        At(
            "faxage",
            "acme",
            "America/Denver",
            faxage.application,
            f'company = "acme"\n{LOGIN}url = "{{url}}/httpsfax.php"\ncdr_url = "{{url}}/getcdr.php"\n',
        ),
        At("retarus", "99999TE", "UTC", retarus.application, LOGIN + 'url = "{url}/rest/v1"\n'),
        At(
            "efax",
            "me",
            "America/Los_Angeles",
            efax.application,
            LOGIN + 'url = "{url}/EFax_WebFax.serv"\nreporting_url = "{url}/v1"\n',
            auth=f'auth = {{ mode = "payload", credentials = [{{ user = "exampleuser", password = "{PASSWORD}" }}] }}',
            by_job=True,
        ),
    )
}
CALLING = [name for name, at in PROVIDERS.items() if at.calls]


@dataclass(frozen=True)
class Pulled:
    at: At
    house: House
    world: World

    @property
    def url(self) -> str:
        """Where the callbacks go."""
        return f"http://127.0.0.1:{self.house.port}/callbacks/{self.at.provider}/{TOKEN}"

    def reconcile(self, *, told: Any = lambda *_: None, **choice: Any) -> Summary:
        """told: is called after each page."""
        runtime = self.house.runtime
        return reconcile.reconcile(runtime, runtime.accounts[self.at.provider], Choice(**choice), Stop(), told)

    def expect(self, faxes: Sequence[SentFax], *, due: timedelta = timedelta(), **facts: Any) -> None:
        """Register these faxes as sent, as ``POST /jobs`` does."""
        account = self.house.runtime.accounts[self.at.provider]
        key = account.provider.key
        assert key is not None
        expected = []
        for fax in faxes:
            identity = key(fax.job_id, fax.number, 0)
            assert identity is not None
            expected.append(
                ExpectedFax(
                    fax_id=str(fax_id(self.at.provider, self.at.account, identity)),
                    provider=self.at.provider,
                    account=self.at.account,
                    endpoint=self.at.provider,
                    job_id=fax.job_id,
                    facts=facts,
                    due_at_ms=now_ms() + round(due.total_seconds() * 1000),
                )
            )
        with self.house.runtime.store.writing() as connection:
            jobs.register(connection, self.house.runtime.store.tables, expected, now_ms())

    def told(self) -> list[dict[str, Any]]:
        """The data of all events in row order, each with its type."""
        return [{**event["data"], "type": event["type"]} for event in self.house.events()]

    def types(self) -> dict[str, list[str]]:
        """fax_id -> the types of its events, in order."""
        found: dict[str, list[str]] = {}
        for event in self.house.events():
            found.setdefault(event["subject"], []).append(event["type"])
        return found

    def discrepancies(self) -> Counter[str]:
        """The open ones by kind."""
        runtime = self.house.runtime
        with runtime.store.reading() as connection:
            rows = discrepancies.listing(connection, runtime.store.tables, limit=None, now_ms=now_ms())
        return Counter(row["kind"] for row in rows)

    def found(self) -> dict[str, dict[str, Any]]:
        """One discrepancy of each kind, with its rows."""
        store = self.house.runtime.store
        with store.reading() as connection:
            rows = discrepancies.listing(connection, store.tables, limit=None, now_ms=now_ms())
            shown = [discrepancies.one(connection, store.tables, row["id"], now_ms()) for row in rows]
        return {one["kind"]: one for one in shown if one is not None}

    def missing(self) -> set[str]:
        """The jobs that are an open discrepancy."""
        store = self.house.runtime.store
        with store.reading() as connection:
            return set(discrepancies.open_since(connection, store.tables, "missing"))

    def asked_long_ago(self) -> None:
        """The registered jobs that were asked for may be asked for again."""
        store = self.house.runtime.store
        with store.writing() as connection:
            connection.execute(store.tables.jobs.update().values(asked_at_ms=0))

    def stored(self) -> str:
        """What lists show of events, receipts and discrepancies, to look for secrets in."""
        runtime = self.house.runtime
        with runtime.store.reading() as connection:
            tables = runtime.store.tables
            rows = [
                *kept_receipts.listing(connection, tables, limit=None),
                *discrepancies.listing(connection, tables, limit=None, now_ms=now_ms(), closed=True),
            ]
        return json.dumps(rows)


def configuration(at: At, url: str, more: str = "", more_reports: str = "") -> str:
    """more: lines of the endpoint. more_reports: of its reports."""
    text = f"""
[server]
bind = "127.0.0.1:@port@"
state_dir = "state"

[store]
url = "@store@"

[endpoints.{at.provider}]
provider = "{at.provider}"
account = "{at.account}"
timezone = "{at.zone}"
{at.auth if at.calls else ""}
{f'tokens = ["{TOKEN}"]' if at.calls else ""}
{more}

[endpoints.{at.provider}.reports]
{at.options.replace("{url}", url)}
{more_reports}
"""
    text = text.replace("{", "{{").replace("}", "}}")
    return text.replace("@port@", "{port}").replace("@store@", "{store}")


@contextmanager
def pulled(
    folder: Path,
    store_url: str,
    provider: str,
    *faxes: SentFax,
    more: str = "",
    more_reports: str = "",
    **standing_in: Any,
) -> Iterator[Pulled]:
    """more: lines of the endpoint. more_reports: of its reports. standing_in: what the stand-in's application takes."""
    at = PROVIDERS[provider]
    of = provider.partition("-")[0]
    world = World(of, at.account, *faxes, timezone=ZoneInfo(at.zone), user="exampleuser", password=PASSWORD)
    with (
        standing(at.application(world, **standing_in)) as url,
        house(folder, store_url, configuration(at, url, more, more_reports)) as made,
    ):
        yield Pulled(at, made, world)


def faxes_of(provider: str, count: int, *, seed: int = 0) -> list[SentFax]:
    """Of the last hours, so that all are in the first window."""
    begin = (datetime.now(UTC) - timedelta(hours=20)).replace(microsecond=0)
    found = some_faxes(provider.partition("-")[0], count, begin, seed=seed)
    times = [begin + timedelta(hours=19) * number / count for number in range(count)]
    return [
        replace(fax, submitted_at=at.replace(microsecond=0), completed_at=at.replace(microsecond=0) + CALL)
        for fax, at in zip(found, times, strict=True)
    ]
