"""
What eFax Developer sends. Source: field names and formats as public code for the outbound disposition reads them.

User name and password are no fields here: they are for authentication, and nothing behind it shall see them.
"""

from schemas.fields import Count, Identity, ProviderSchema, Seconds, StatusNumber, StatusWord, Text, Timestamp


class Disposition(ProviderSchema):
    """The end of one recipient's fax."""

    job_id = Identity(data_key="DOCID")  # the same for all recipients of a request
    status = StatusNumber(data_key="FaxStatus")
    number = Text(data_key="FaxNumber")  # blank, ``Unknown`` or a label where the number is withheld
    digest = Identity(data_key="#sha256")  # of what was sent, credentials apart: identity where there is no number
    reference_id = Text(data_key="TransmissionID")  # the sender's own; empty when none was given
    completed_at = Timestamp(month_first=True, data_key="CompletionDate")
    station_id = Text(data_key="RecipientCSID")
    duration_seconds = Seconds(60, data_key="Duration")  # sent as decimal minutes
    pages_sent = Count(data_key="PagesSent")
    attempts = Count(data_key="NumberOfRetries")  # calls, not retries: success at the first call is 1


DISPOSITION = Disposition()


class Status(ProviderSchema):
    """
    How far one recipient's fax is: a Recipient of OutboundStatusResponse, laid flat.

    Source: replies in the tests of a public client. The quotation marks around some values are taken off before.
    """

    job_id = Identity(data_key="DOCID")
    number = Text(data_key="Fax")
    message = Text(data_key="Message")
    classification = StatusWord(data_key="Classification", required=False)  # both empty while the fax waits
    outcome = StatusWord(data_key="Outcome", required=False)
    next_attempt = Text(data_key="NextDate")
    recipient_name = Text(data_key="Name")
    reference_id = Text(data_key="TransmissionID")  # of the whole request
    completed_at = Timestamp(month_first=True, data_key="LastAttempt")
    station_id = Text(data_key="RemoteCSID")
    duration_seconds = Seconds(60, data_key="Duration")  # sent as decimal minutes
    pages_total = Count(data_key="Scheduled")
    pages_sent = Count(data_key="Sent")
    attempts = Count(data_key="Retries")  # calls, as in a disposition: 1 where the first one succeeded


STATUS = Status()
