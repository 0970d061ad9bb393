"""
Openfax Broadcast: one document to many recipients.

No callbacks; its jobs are read by SOAP once they are completed.
"""

from receiver.providers.openfax_broadcast.codes import ADVICE, CODES
from receiver.providers.openfax_broadcast.reports import REPORTS
from receiver.providers.shared.contract import Provider

PROVIDER = Provider(
    name="openfax-broadcast",
    title="Openfax Broadcast",
    callback=None,
    codes=CODES,
    reports=REPORTS,
    zoneless=True,
    advice=ADVICE,
    region="US",
    notes="Sends no callbacks: completed jobs are read by SOAP, which needs the extra `reports`.",
    sources=("Openfax Broadcast Fax Reporting API Documentation", "https://www.openfax.com/reports/"),
)
