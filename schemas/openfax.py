"""What Openfax sends. Source: Openfax Cloud Fax API, "Single Fax Webhook Post Back"."""

from schemas.fields import Amount, Count, Identity, ProviderSchema, Seconds, StatusNumber, Text


class Postback(ProviderSchema):
    """One fax that Openfax has finished with. It names no number, no time and no attempts."""

    job_id = Identity(data_key="OutTransID")
    account = Identity(data_key="AccountID", required=False)  # the endpoint may name it instead
    status = StatusNumber(data_key="LastStatus")
    sender_name = Text(data_key="From")  # the text of the fax header, not a number
    recipient_name = Text(data_key="To")  # likewise
    pages_sent = Count(data_key="PagesSent")
    duration_seconds = Seconds(data_key="CallDuration")
    cost = Amount(data_key="RealCost")  # in no stated currency


POSTBACK = Postback()
