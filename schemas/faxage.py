"""
What FAXAGE sends. Sources: FAXAGE Internet Fax API, "Callback URL POST Response" and "Status Operation"; bodies and
records seen in public test code.
"""

from schemas.fields import ClockSeconds, Count, Identity, ProviderSchema, StatusWord, Text, Timestamp


class Notification(ProviderSchema):
    """One job, by callback or as a status record. Public test bodies hold the first two fields only."""

    job_id = Identity(data_key="jobid")
    call_id = Text(data_key="commid")  # of the communication, for FAXAGE's support
    status = StatusWord(("pending", "success", "failure"), data_key="shortstatus")
    status_text = Text(data_key="longstatus")  # for people: the provider advises against reading it by program
    recipient_name = Text(data_key="destname")
    number = Text(data_key="destnum")
    submitted_at = Timestamp(data_key="sendtime")
    completed_at = Timestamp(data_key="completetime")  # all zeros while pending
    duration_seconds = ClockSeconds(data_key="xmittime")
    pages_total = Count(data_key="pagecount")
    pages_sent = Count(data_key="xmitpages")
    # Status records only. Their columns have no names; the last one is asked for by this.
    station_id = Text(data_key="csid")
    attempts = Count(data_key="showtries")


NOTIFICATION = Notification()
