"""
What Openfax sends, and what its report says.

Source: Openfax Cloud Fax API, "Single Fax Webhook Post Back" and "Single Fax Outbound By Date".
"""

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


class OutboundDetail(ProviderSchema):
    """
    One row of a report: one call of one fax. It names no time, no duration and no cost.

    LastStatus is in no table of the document; its text speaks of it as the result of such a row.
    """

    call_id = StatusNumber(data_key="HistoryOutboundFaxID")  # which reading goes on by
    job_id = Identity(data_key="OutTransID")
    account = Identity(data_key="AccountID", required=False)  # the credentials name it too
    state = StatusNumber(data_key="CurrentState")
    status = StatusNumber(data_key="LastStatus", required=False)
    number = Text(data_key="FaxNumber")  # with the country code, without +
    caller_id = Text(data_key="CallerID")  # likewise
    attempts = Count(data_key="RetryCount")  # which call of MaxAttempts this is
    recipient_name = Text(data_key="ToHeader")
    sender_name = Text(data_key="FromHeader")
    pages_total = Count(data_key="PageCount")


OUTBOUND_DETAIL = OutboundDetail()
