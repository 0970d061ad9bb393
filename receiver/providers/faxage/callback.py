"""
The callback: a form post to the URL that was given with the fax (``url_notify``).

Source: FAXAGE Internet Fax API documentation, and what was seen in public code that receives.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from receiver.errors import Inbound
from receiver.providers.faxage.codes import CODES
from receiver.providers.shared.contract import RawCallback, SimulatedFax, SimulatedJob, Source
from receiver.providers.shared.decoding import says_inbound
from receiver.providers.shared.normalising import DELIVERED, e164, utc
from schemas.event import FaxCompleted, Pages, Recipient, Reference


def shape(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The form as it is. Raises Inbound for a fax that came in: that has a ``recvid`` and no job."""
    if not form.keys() & {"jobid", "shortstatus"} and says_inbound(form):
        raise Inbound
    return form


def normalise(notification: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """One event for one notification or status record, none while the job is pending; times in the endpoint's zone."""
    assert source.account is not None, "the settings require it"
    verdict = CODES.verdict(notification["status"])
    if verdict is None:
        return []
    submitted_at, _ = utc(notification["submitted_at"], source.timezone)
    completed_at, time_quality = utc(notification["completed_at"], source.timezone)
    return [
        FaxCompleted(
            account=source.account,
            key=(notification["job_id"],),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=notification["status"],
            status_text=notification["status_text"],
            provider_job_id=notification["job_id"],
            provider_call_id=notification["call_id"],
            recipient=Recipient(
                number=e164(notification["number"], source.region),
                number_raw=notification["number"],
                name=notification["recipient_name"],
                station_id=notification["station_id"],
            ),
            pages=Pages(total=notification["pages_total"], sent=notification["pages_sent"]),
            duration_seconds=notification["duration_seconds"],
            attempts=notification["attempts"],
            submitted_at=submitted_at,
            completed_at=completed_at,
            time_quality=time_quality,
            reference=Reference(id=source.reference),
        )
    ]


def key(job_id: str, _number: str | None, _occurrence: int) -> tuple[str, ...]:
    """A job is one fax at FAXAGE."""
    return (job_id,)


def simulate(job: SimulatedJob) -> Sequence[RawCallback]:
    """One urlencoded post a fax; as a FAXAGE job is one fax, the following faxes have the following ids."""
    return [_notification(job, str(int(job.job_id) + index), fax) for index, fax in enumerate(job.faxes)]


def _notification(job: SimulatedJob, job_id: str, fax: SimulatedFax) -> RawCallback:
    verdict = CODES.verdict(fax.status)
    delivered = verdict is DELIVERED
    fields = {
        "jobid": job_id,
        "commid": job_id[::-1],
        "destname": "Example",
        "destnum": _number(fax.number),
        "shortstatus": fax.status,
        "longstatus": "Success" if delivered else "Simulated failure" if verdict else "In Queue",
        "sendtime": local(job.submitted_at, job.timezone),
        "completetime": local(job.completed_at, job.timezone) if verdict else "0000-00-00 00:00:00",
        "xmittime": "00:00:31" if delivered else "00:00:00",
        "pagecount": "1",
        "xmitpages": "1" if delivered else "0",
    }
    return RawCallback(urlencode(fields).encode(), "application/x-www-form-urlencoded")


def _number(number: str) -> str:
    """A North American number as ``(208)555-0139``, another one as its digits."""
    digits = number.removeprefix("+")
    if len(digits) == 11 and digits.startswith("1"):
        return f"({digits[1:4]}){digits[4:7]}-{digits[7:]}"
    return digits


def local(time: datetime, zone: ZoneInfo | None) -> str:
    """A time as FAXAGE writes it, which says no zone."""
    return f"{time.astimezone(zone or UTC):%Y-%m-%d %H:%M:%S}"


SETUP = """\
With every fax that you send (operation=sendfax), add one variable:
  url_notify={url}
  - Keep the token in the path as it is here: FAXAGE has been seen to cut off the query string.
  - To find your own record again, append "/r/" and your id of 1 to 128 characters of A-Z a-z 0-9 . _ ~ -
FAXAGE gives no proof of origin: the token in the address is the only one, keep it secret.
Set the endpoint's timezone to the one your FAXAGE account reports times in; FAXAGE does not state it.
"""
