"""What FAXAGE sends. Source: FAXAGE Internet Fax API, "Callback URL POST Response"; bodies seen in public test code."""

from schemas.fields import ClockSeconds, Count, Identity, ProviderSchema, StatusWord, Text, ZonelessTime


class Notification(ProviderSchema):
    """One job that FAXAGE has finished with. Public test bodies hold the first two fields only."""

    job_id = Identity(data_key="jobid")
    status = StatusWord(("pending", "success", "failure"), data_key="shortstatus")
    status_text = Text(data_key="longstatus")  # for people: the provider advises against reading it by program
    recipient_name = Text(data_key="destname")
    number = Text(data_key="destnum")
    submitted_at = ZonelessTime(data_key="sendtime")
    completed_at = ZonelessTime(data_key="completetime")  # all zeros while pending
    duration_seconds = ClockSeconds(data_key="xmittime")
    pages_total = Count(data_key="pagecount")
    pages_sent = Count(data_key="xmitpages")


NOTIFICATION = Notification()
