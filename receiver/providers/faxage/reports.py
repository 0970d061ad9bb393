"""The reports: status records of faxes, and call records to compare."""

from datetime import timedelta

from receiver.providers.faxage.callback import normalise
from receiver.providers.faxage.calls import differs, fetch_calls
from receiver.providers.faxage.codes import CODES
from receiver.providers.faxage.statuses import fetch_jobs, fetch_window, shape_record
from receiver.providers.shared.contract import AggregateReport, Option, RecordReport, Reports
from schemas.faxage import NOTIFICATION

REPORTS = Reports(
    options=(
        Option("company", "the company that you log in to FAXAGE with"),
        Option("user", "the user name that you log in to FAXAGE with"),
        Option("password", "the password that you log in to FAXAGE with"),
        # The document has www. for both; newer public clients all use this one, of which no getcdr.php is known.
        Option("url", "where operation=status is asked", "https://api.faxage.com/httpsfax.php", is_url=True),
        Option(
            "cdr_url", 'where call records are asked; "" for nowhere', "https://www.faxage.com/getcdr.php", is_url=True
        ),
    ),
    records=(
        RecordReport("status-of-jobs", fetch_jobs, NOTIFICATION, normalise, CODES, shape=shape_record, of_jobs=True),
        # A window is about the times of sending, so a fax that redials or waits in a queue for up to a day is in the
        # window of the run after its end. Longer is left to status-of-jobs.
        RecordReport(
            "status", fetch_window, NOTIFICATION, normalise, CODES, shape=shape_record, overlap=timedelta(days=1)
        ),
    ),
    aggregates=(AggregateReport("calls", fetch_calls, differs),),
)
