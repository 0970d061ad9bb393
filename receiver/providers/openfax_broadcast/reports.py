"""The one report: the transmissions of every completed job."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from marshmallow import ValidationError

from receiver.errors import ReportTrouble
from receiver.providers.openfax_broadcast.codes import CODES
from receiver.providers.openfax_broadcast.soap import JOBS_COMPLETED, JOBS_RUNNING, TRANSMISSIONS_OF_JOB, Row, Service
from receiver.providers.shared.client import Client
from receiver.providers.shared.contract import Ask, Finding, Option, Page, RecordReport, Reports, Source
from receiver.providers.shared.normalising import DELIVERED, e164, is_too_long, utc
from schemas.event import FaxCompleted, Pages, Recipient, Reference
from schemas.openfax_broadcast import HISTORY_JOB, TRANSMISSION

_LARGEST_PAGE = 500


# --- which jobs are read ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cursor:
    """
    since: jobs that ended before are not told, for so far back the first window has gone. done: those read in full, of
    the 30 days that the history goes back. asked: those of these days that were asked for and are not done, the last
    one last.
    """

    since: datetime
    done: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @classmethod
    def of(cls, ask: Ask) -> "_Cursor":
        if ask.cursor is None:
            return cls(ask.begin)
        kept = json.loads(ask.cursor)
        return cls(datetime.fromisoformat(kept["since"]), tuple(kept["done"]), tuple(kept.get("asked", ())))

    def text(self) -> str:
        kept = {"since": self.since.isoformat(), "done": self.done, "asked": self.asked}
        return json.dumps(kept, separators=(",", ":"))

    def listed(self, jobs: Collection[str]) -> "_Cursor":
        """Without the jobs that the history has forgotten."""
        done, asked = (tuple(job_id for job_id in kept if job_id in jobs) for kept in (self.done, self.asked))
        return replace(self, done=done, asked=asked)

    def in_turn(self, jobs: Collection[str]) -> list[str]:
        """Those of these jobs that are not done: newest first the ones never asked for, then the longest not asked."""
        never = sorted(set(jobs) - set(self.done) - set(self.asked), key=lambda one: (len(one), one), reverse=True)
        return [*never, *(job_id for job_id in self.asked if job_id in jobs)]

    def behind(self, job_id: str, *, is_done: bool) -> "_Cursor":
        asked = tuple(one for one in self.asked if one != job_id)
        if is_done:
            return replace(self, done=(*self.done, job_id), asked=asked)
        return replace(self, asked=(*asked, job_id))


def fetch(ask: Ask, client: Client) -> Iterator[Page]:
    """
    The transmissions of every completed job that has not been read in full yet.

    A job that getRealtime shows as running is left for the next run, whatever the history says of it. One whose
    transmissions are not as many as the history counts is read again in every run, one request each, until they are or
    the history forgets it; so is one with a transmission that cannot be read. Jobs that were never asked for come
    first, the newer before the older, so that those do not keep them waiting where the requests of a run do not
    suffice. Where one job cannot be read the others are, and then the trouble is raised.
    """
    service = Service(ask, client)
    running = {str(row.get("JobID") or "").strip() for row in service.rows(JOBS_RUNNING)}
    jobs, trouble = _history(service.rows(JOBS_COMPLETED))
    cursor = _Cursor.of(ask).listed(jobs)
    for job_id in cursor.in_turn(jobs.keys() - running):
        try:
            job = _Job(jobs[job_id], service.answer(TRANSMISSIONS_OF_JOB, job_id), ask, service)
        except ReportTrouble as found:
            if found.kind not in ("refused", "unreadable"):
                raise
            trouble = found
            cursor = cursor.behind(job_id, is_done=False)
            yield Page((), cursor.text())
            continue
        is_earlier = job.is_earlier(cursor.since)
        cursor = cursor.behind(job_id, is_done=is_earlier or (job.adds_up and not job.unreadable and not job.is_later))
        if is_earlier or job.is_later:
            yield Page((), cursor.text())
            continue
        page: list[Row] = []
        for row in job.rows():
            if len(page) == _LARGEST_PAGE:
                yield Page(page)
                page = []
            page.append(row)
        yield Page(page, cursor.text(), () if job.adds_up else (job.finding(),))
    if trouble:
        raise trouble


def _history(rows: Iterator[Row]) -> tuple[dict[str, Mapping[str, Any]], ReportTrouble | None]:
    """The completed jobs by id; trouble where one has none that can be read."""
    jobs: dict[str, Mapping[str, Any]] = {}
    trouble = None
    for row in rows:
        try:
            job = HISTORY_JOB.load(row)
        except ValidationError:
            trouble = ReportTrouble("unreadable", "Openfax Broadcast lists a job without a JobID; ask its support")
        else:
            jobs[job["job_id"]] = job
    return jobs, trouble


class _Job:
    """
    One completed job and the answer with its transmissions, which is gone through twice: to count, and to tell.

    adds_up: there are as many as the history counts, and as many delivered. unreadable: so many cannot be read.
    """

    def __init__(self, listed: Mapping[str, Any], answer: bytes, ask: Ask, service: Service) -> None:
        self._listed = listed
        self._answer = answer
        self._service = service
        self._theirs = {name: listed[name] for name in ("total", "delivered")}
        self._ours = {"total": 0, "delivered": 0}
        self.unreadable = 0
        times = []
        for row in self.rows():
            self._ours["total"] += 1
            try:
                read = TRANSMISSION.load(row)
            except ValidationError:
                self.unreadable += 1
                continue
            self._ours["delivered"] += CODES.verdict(read["status"]) is DELIVERED
            if (time := utc(read["completed_at"], ask.zone)[0]) is not None:
                times.append(time)
        self._last = max(times, default=None)
        self.adds_up = self._theirs == self._ours
        self.is_later = bool(times) and min(times) > ask.end

    def is_earlier(self, since: datetime) -> bool:
        """Whether it ended before; not where none of its transmissions has a time."""
        return self._last is not None and self._last < since

    def rows(self) -> Iterator[Row]:
        of_the_job = {"JobID": self._listed["job_id"], "BillCode": self._listed["billing_code"]}
        for row in self._service.read(self._answer, TRANSMISSIONS_OF_JOB):
            yield {**row, **of_the_job}

    def finding(self) -> Finding:
        """What does not add up; or that it cannot be said, where a count of the history cannot be read."""
        subject = f"job {self._listed['job_id']}"
        fields = {"total": "TotalDestinations", "delivered": "TotalSuccessful"}
        unknown = {field: "expected a whole number" for name, field in fields.items() if self._theirs[name] is None}
        if unknown:
            return Finding("unreadable", subject, unknown)
        counts = {name: count for name, count in self._theirs.items() if count is not None}
        listed = {f"listed_{name}": count for name, count in self._ours.items()}
        return Finding("tally", subject, {**counts, **listed})


# --- normalise -------------------------------------------------------------------------------------------------------


def normalise(row: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """The event of one transmission, which is always final. Its time is in the endpoint's zone."""
    assert source.account is not None, "the settings require it"
    verdict = CODES.verdict(row["status"])
    assert verdict is not None
    completed_at, time_quality = utc(row["completed_at"], source.timezone)
    return [
        FaxCompleted(
            account=source.account,
            key=(row["job_id"], row["fax_id"]),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=row["status"],
            provider_job_id=row["job_id"],
            provider_fax_id=row["fax_id"],
            recipient=Recipient(
                number=_number(row["number"], source.region),
                number_raw=row["number"],
                name=row["recipient_name"],
                country=row["country"],
            ),
            pages=Pages(sent=row["pages_sent"]),
            duration_seconds=row["duration_seconds"],
            completed_at=completed_at,
            time_quality=time_quality,
            reference=Reference(billing_code=row["billing_code"]),
        )
    ]


def _number(written: str | None, region: str | None) -> str | None:
    """In E.164: how numbers are written is not documented, and one too long for the region has a country code."""
    return e164(written, region) or (e164(f"+{written}", None) if is_too_long(written, region) else None)


REPORTS = Reports(
    options=(
        Option("api_key", "the API key from Web Launch; it changes with the account's password"),
        Option("url", "the service", "https://templaunch.openfax.com/api/reporting.asmx", is_url=True),
    ),
    records=(
        RecordReport(
            name="transmissions",
            fetch=fetch,
            schema=TRANSMISSION,
            normalise=normalise,
            codes=CODES,
        ),
    ),
)
