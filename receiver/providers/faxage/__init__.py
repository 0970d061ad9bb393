"""FAXAGE: a form post for every fax, and status and call records on request."""

from receiver.providers.faxage.callback import SETUP, key, normalise, shape, simulate
from receiver.providers.faxage.codes import CODES
from receiver.providers.faxage.reports import REPORTS
from receiver.providers.shared.contract import BodyKind, Callback, Provider
from schemas.faxage import NOTIFICATION

PROVIDER = Provider(
    name="faxage",
    title="FAXAGE",
    callback=Callback(
        kinds=frozenset({BodyKind.FORM}),
        schema=NOTIFICATION,
        normalise=normalise,
        simulate=simulate,
        setup=SETUP,
        shape=shape,
        once=frozenset({"jobid", "shortstatus"}),
    ),
    codes=CODES,
    reports=REPORTS,
    key=key,
    zoneless=True,
    timezone="America/Denver",  # where the company is; no document says which zone its times are in
    region="US",
    notes="Sends times without a zone and reasons as text only; documents no retry.",
    sources=("FAXAGE Internet Fax API Documentation", "https://www.faxage.com"),
)
