"""
What eFax Developer sends. Source: field names and formats as public code for the outbound disposition reads them.

User name and password are no fields here: they are for authentication, and nothing behind it shall see them.
"""

from schemas.fields import Count, Identity, ProviderSchema, Seconds, StatusNumber, Text, ZonelessTime


class Disposition(ProviderSchema):
    """The end of one recipient's fax."""

    job_id = Identity(data_key="DOCID")  # the same for all recipients of a request
    status = StatusNumber(data_key="FaxStatus")
    number = Text(data_key="FaxNumber")  # blank, ``Unknown`` or a label where the number is withheld
    digest = Identity(data_key="#sha256")  # of what was sent, credentials apart: identity where there is no number
    reference_id = Text(data_key="TransmissionID")  # the sender's own; empty when none was given
    completed_at = ZonelessTime(data_key="CompletionDate")
    station_id = Text(data_key="RecipientCSID")
    duration_seconds = Seconds(60, data_key="Duration")  # sent as decimal minutes
    pages_sent = Count(data_key="PagesSent")
    attempts = Count(data_key="NumberOfRetries")  # calls, not retries: success at the first call is 1


DISPOSITION = Disposition()
