"""
What Retarus sends. Sources: Retarus status push API; HTTP status push; getFaxReports; fax reports by REST.

Customers may order a template of their own, so that spellings differ from account to account: the two of the time are
both fields here, and ``receiver.providers.retarus`` brings the layouts to one.
"""

from marshmallow import fields

from schemas.fields import Count, Identity, ProviderSchema, Seconds, StatusWord, Text, Timestamp
from schemas.rows import Rows


class Recipient(ProviderSchema):
    """The result of one recipient of a job. Only the status is certain to be there."""

    status = StatusWord(data_key="status")
    status_text = Text(data_key="reason")
    number = Text(data_key="number")
    number_dialed = Text(data_key="sentToNumber")  # perhaps an alternative number
    fax_id = Text(data_key="numId")  # absent in REST
    sent_at = Timestamp(data_key="sentTS")
    sent_at_rest = Timestamp(data_key="sentTs")
    sent = fields.Raw(data_key="#sent", load_default=())  # both as they were written
    duration_seconds = Seconds(data_key="durationInSecs")
    station_id = Text(data_key="remoteCsid")


class Job(ProviderSchema):
    """One job with all its recipients. A dotted name is a part's own field."""

    job_id = Identity(data_key="jobId")
    recipients = Rows(Recipient(), data_key="faxRecipient")
    pages = Count(data_key="pages")  # of the document: the same for all recipients
    customer_id = Text(data_key="reference.customerDefinedId")
    billing_code = Text(data_key="reference.billingCode")
    billing_info = Text(data_key="reference.billingInfo")
    job_reference = Text(data_key="options.jobReference")


class StatusPush(ProviderSchema):
    """The jobs of one push: normally one, any number in a getFaxReports reply."""

    jobs = Rows(Job(), data_key="faxJobReport")


STATUS_PUSH = StatusPush()
