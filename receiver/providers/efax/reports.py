"""The reports: OutboundStatus, which has the recipients of one DOCID, and the Reporting API, which only counts."""

from receiver.providers.efax.codes import OUTCOMES
from receiver.providers.efax.counts import AGGREGATES
from receiver.providers.efax.statuses import fetch_statuses, normalise, shape
from receiver.providers.shared.contract import Option, RecordReport, Reports
from schemas.efax import STATUS

REPORTS = Reports(
    options=(
        Option("user", "user name for eFax Developer's requests"),
        Option("password", "its password"),
        Option("id", "eFax's account id, where it is not the endpoint's account", ""),
        Option("url", "of OutboundStatus", "https://secure.efaxdeveloper.com/EFax_WebFax.serv", is_url=True),
        Option("api_key", "key of the Reporting API; without it no counts are compared", ""),
        Option("reporting_user", "user name for the Reporting API", ""),
        Option("reporting_password", "its password", ""),
        Option("reporting_url", "of the Reporting API", "https://api.secure.efaxdeveloper.com/v1", is_url=True),
    ),
    records=(
        RecordReport(
            name="outbound-status",
            fetch=fetch_statuses,
            schema=STATUS,
            normalise=normalise,
            codes=OUTCOMES,
            shape=shape,
            of_jobs=True,
        ),
    ),
    aggregates=AGGREGATES,
)
