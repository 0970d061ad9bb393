"""
The callback: a form post for every finished fax.

Its only description is a PHP example that reads eight names from ``$_REQUEST``: method and kind of body stay open, so
query string, urlencoded and multipart are all read. Source: Openfax Cloud Fax API, apidocs.openfax.com.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from receiver.errors import AccountMismatch, Inbound, Unprocessable
from receiver.providers.openfax.codes import CODES
from receiver.providers.shared.contract import RawCallback, SimulatedJob, Source
from receiver.providers.shared.decoding import says_inbound
from receiver.providers.shared.normalising import DELIVERED
from schemas.event import Cost, FaxCompleted, Pages, Recipient, Reference, Sender


def normalise(postback: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """
    One event for one postback, none while the fax is in processing.

    No destination number and no time: Openfax sends neither, and its From and To are texts of the fax header.
    Raises AccountMismatch or Unprocessable where the account cannot be told.
    """
    account = account_of(postback["account"], source.account)
    verdict = CODES.verdict(postback["status"])
    if verdict is None:
        return []
    return [
        FaxCompleted(
            account=account,
            key=(postback["job_id"],),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=postback["status"],
            provider_job_id=postback["job_id"],
            recipient=Recipient(name=postback["recipient_name"]),
            sender=Sender(name=postback["sender_name"]),
            pages=Pages(sent=postback["pages_sent"]),
            duration_seconds=postback["duration_seconds"],
            cost=None if postback["cost"] is None else Cost(postback["cost"]),
            reference=Reference(id=source.reference),
        )
    ]


def shape(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The form as it is. Raises Inbound for one that names no fax that was sent and says that one came in."""
    if not form.keys() & {"OutTransID", "LastStatus"} and says_inbound(form):
        raise Inbound
    return form


def account_of(stated: str | None, configured: str | None) -> str:
    """The account the fax belongs to: the stated one, and the endpoint's where that is set; they must agree."""
    account = stated or configured
    if account is None:
        raise Unprocessable(
            "the postback names no account", fields={"AccountID": "missing; expected the account number"}
        )
    if configured is not None and account != configured:
        raise AccountMismatch(
            "the fax is another account's than this endpoint's",
            fields={"AccountID": "expected the account of this endpoint"},
        )
    return account


def key(job_id: str, _number: str | None, _occurrence: int) -> tuple[str, ...]:
    """A fax has an id of its own at Openfax."""
    return (job_id,)


def simulate(job: SimulatedJob) -> Sequence[RawCallback]:
    """One urlencoded post a fax; as an Openfax job is one fax, the following faxes have the following ids."""
    return [_postback(str(int(job.job_id) + index), job.account, fax.status) for index, fax in enumerate(job.faxes)]


def _postback(job_id: str, account: str, status: str) -> RawCallback:
    delivered = CODES.verdict(status) is DELIVERED
    fields = {
        "OutTransID": job_id,
        "AccountID": account,
        "From": "Example Sender",
        "To": "Example",
        "PagesSent": "1" if delivered else "0",
        "CallDuration": "31" if delivered else "0",
        "LastStatus": status,
        "RealCost": "0.0147" if delivered else "0",
    }
    return RawCallback(urlencode(fields).encode(), "application/x-www-form-urlencoded")


SETUP = """\
In the Openfax portal, once for the account:
  1. Log in and open Settings.
  2. Turn on "Enable Post Back for Outbound Faxes".
  3. Enter this address and save:
     {url}
The address holds the endpoint's token, which is the only proof of origin Openfax can give: keep it secret.
"""
