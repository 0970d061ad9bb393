"""What Openfax Broadcast reports. Source: Broadcast Fax Reporting API Documentation; types are not documented."""

from schemas.fields import Count, Identity, ProviderSchema, Seconds, StatusNumber, Text, Timestamp


class HistoryJob(ProviderSchema):
    """A completed job and what Openfax has counted of it."""

    job_id = Identity(data_key="JobID")
    billing_code = Text(data_key="BillCode")
    total = Count(data_key="TotalDestinations")
    delivered = Count(data_key="TotalSuccessful")


class Transmission(ProviderSchema):
    """
    One recipient of a job: the result of the last try.

    JobID and BillCode are the job's, which the list of its transmissions does not repeat.
    """

    job_id = Identity(data_key="JobID")
    billing_code = Text(data_key="BillCode")
    fax_id = Identity(data_key="TransactionID")
    status = StatusNumber(data_key="ErrorCode")
    number = Text(data_key="Phone")
    country = Text(data_key="Country")  # or a rate center
    recipient_name = Text(data_key="Reference")  # the "To" text of the fax header
    pages_sent = Count(data_key="Pages")
    duration_seconds = Seconds(60, data_key="Duration")  # in minutes
    completed_at = Timestamp(data_key="CompletedDate")


HISTORY_JOB = HistoryJob()
TRANSMISSION = Transmission()
