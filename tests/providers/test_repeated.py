"""An optional field that is repeated: equal values are one, of different ones none is believed, and that is told."""

import json
from dataclasses import asdict, replace

import pytest
from samples import source

from receiver import providers, stations
from receiver.errors import Undecodable
from receiver.providers import RawCallback, read
from schemas.fields import Count, Text, Timestamp, noting_unreadable

FAXAGE = "jobid=1&shortstatus=success"
OPENFAX = "OutTransID=1&AccountID=2&LastStatus=0"
EFAX = "xml=<OutboundDisposition DOCID='1' FaxStatus='0' PagesSent='1'><PagesSent>2</PagesSent></OutboundDisposition>"
RETARUS = {"jobId": "J", "faxRecipients": [{"number": "+498912504001710", "status": "OK"}]}


def retarus_xml(recipient="", job=""):
    first = f"<faxRecipient><number>+498912504001710</number><status>OK</status>{recipient}</faxRecipient>"
    return f"<faxJobReport><jobId>J</jobId>{first}{job}</faxJobReport>"


def retarus_json(of_recipient=None, of_job=None):
    recipient = RETARUS["faxRecipients"][0] | (of_recipient or {})
    return json.dumps({**RETARUS, "faxRecipients": [recipient], **(of_job or {})})


def of_callback(name, body):
    """The event of a callback, and what could not be read in it."""
    provider = providers.load()[name]
    data = read(body if isinstance(body, RawCallback) else RawCallback(body.encode()), provider.push)
    (event,), unreadable = stations.understand(provider.push, data, source(provider))
    return asdict(event), unreadable


def of_row(name, report, row):
    """The event of a report's row, and what could not be read in it."""
    provider = providers.load()[name]
    (found,) = (one for one in provider.reports.records if one.name == report)
    (event,), unreadable = stations.understand(found, row, replace(source(provider), account="2"))
    return asdict(event), unreadable


def at(event, path):
    for name in path.split("."):
        event = event[name]
    return event


EFAX_ROW = {"DOCID": "1", "Fax": "12085550139", "Status": {"Classification": "Success", "Outcome": "Success"}}
OPENFAX_ROW = {"HistoryOutboundFaxID": 1, "OutTransID": 1, "CurrentState": 8, "FaxNumber": "12085550139"}
BROADCAST_ROW = {"JobID": "1", "BillCode": None, "TransactionID": "1", "ErrorCode": "0"}
REST = {"jobId": "J", "recipientStatus": [{"number": "+498912504001710", "status": "OK"}]}


@pytest.mark.parametrize(
    ("name", "body", "path", "field"),
    [
        ("faxage", FAXAGE + "&pagecount=1&pagecount=2", "pages.total", "pagecount"),
        ("faxage", FAXAGE + "&destnum=2085550139&destnum=2085550140", "recipient.number", "destnum"),
        ("openfax", OPENFAX + "&PagesSent=1&PagesSent=2&PagesSent=1", "pages.sent", "PagesSent"),
        ("openfax", RawCallback((OPENFAX + "&From=a").encode(), "", query=b"From=b"), "sender.name", "From"),
        ("retarus", retarus_xml("<durationInSecs>1</durationInSecs><durationInSecs>2</durationInSecs>"), "", ""),
        ("retarus", retarus_xml(job="<pages>1</pages><pages>2</pages>"), "pages.total", "pages"),
        ("retarus", retarus_json(of_job={"pages": [1, 2]}), "pages.total", "pages"),
        ("retarus", retarus_json({"durationInSecs": [1, 2]}), "duration_seconds", "durationInSecs"),
        (
            "retarus",
            retarus_xml(job="<reference><billingCode>a</billingCode><billingCode>b</billingCode></reference>"),
            "reference.billing_code",
            "reference.billingCode",
        ),
        (
            "retarus",
            retarus_xml(job=2 * "<reference><billingCode>{}</billingCode></reference>").format("a", "b"),
            "reference.billing_code",
            "reference.billingCode",
        ),
        ("efax", EFAX, "pages.sent", "PagesSent"),
    ],
)
def test_different_values_in_a_callback_are_none_and_named(name, body, path, field):
    event, unreadable = of_callback(name, body)
    assert unreadable == [field or "durationInSecs"]
    assert at(event, path or "duration_seconds") is None


@pytest.mark.parametrize(
    ("name", "report", "row", "path", "field"),
    [
        ("openfax", "outbound-by-date", OPENFAX_ROW | {"PageCount": [1, 2]}, "pages.total", "PageCount"),
        ("openfax", "outbound-by-date", OPENFAX_ROW | {"FaxNumber": ["1208", "1209"]}, "recipient.number", "FaxNumber"),
        ("openfax-broadcast", "transmissions", BROADCAST_ROW | {"Pages": ["1", "2"]}, "pages.sent", "Pages"),
        ("retarus", "reports", {"reports": [REST | {"pages": [1, 2]}]}, "pages.total", "pages"),
        ("efax", "outbound-status", EFAX_ROW | {"Duration": ["0.4", "0.5"]}, "duration_seconds", "Duration"),
        ("efax", "outbound-status", EFAX_ROW | {"Pages": [{"Sent": "1"}, {"Sent": "2"}]}, "pages.sent", "Sent"),
        ("efax", "outbound-status", EFAX_ROW | {"Pages": {"Sent": "1"}, "Sent": "2"}, "pages.sent", "Sent"),
        ("efax", "outbound-status", EFAX_ROW | {"TransmissionID": ["a", "b"]}, "reference.id", "TransmissionID"),
    ],
)
def test_different_values_in_a_report_are_none_and_named(name, report, row, path, field):
    event, unreadable = of_row(name, report, row)
    assert unreadable == [field]
    assert at(event, path) is None


@pytest.mark.parametrize(
    ("name", "body", "path", "value"),
    [
        ("faxage", FAXAGE + "&pagecount=1&pagecount=1", "pages.total", 1),
        ("faxage", FAXAGE + "&pagecount=&pagecount=01", "pages.total", 1),
        ("openfax", OPENFAX + "&From=a&From=a", "sender.name", "a"),
        ("retarus", retarus_xml(job="<pages/><pages>2</pages><pages>2</pages>"), "pages.total", 2),
        ("retarus", retarus_json({"durationInSecs": [None, 31]}), "duration_seconds", 31),
        (
            "retarus",
            retarus_xml(job="<reference/><reference><billingCode>a</billingCode></reference>"),
            "reference.billing_code",
            "a",
        ),
    ],
)
def test_equal_values_are_one_and_what_is_blank_says_nothing(name, body, path, value):
    event, unreadable = of_callback(name, body)
    assert (at(event, path), unreadable) == (value, [])


def test_a_value_is_equal_by_what_it_says_not_by_how_it_is_written():
    with noting_unreadable() as names:
        assert Count().deserialize(["1", 1, "01"], "a") == 1
        assert Timestamp().deserialize(["0000-00-00 00:00:00", "2026-07-07 15:19:13"], "a").year == 2026
        assert Text().deserialize(["a", "A"], "b") is None
        assert Text().deserialize(["a", {}], "c") is None
        assert Text().deserialize(["a"], "d") is None  # a list, and nothing that was repeated
    assert names == ["b", "c", "d"]


def test_what_says_whether_an_efax_result_is_final_is_not_repeated():
    row = EFAX_ROW | {"NextAttempt": [{"NextDate": "08/07/2008"}, {"NextDate": "08/08/2008"}]}
    with pytest.raises(Undecodable) as refused:
        of_row("efax", "outbound-status", row)
    assert list(refused.value.fields) == ["NextDate"]


def test_a_repeated_key_of_a_json_callback_is_refused_whichever_it_is():
    body = retarus_json(of_job={"pages": 1}).replace('"pages"', '"pages": 2, "pages"')
    with pytest.raises(Undecodable):
        of_callback("retarus", body)


def test_what_nobody_reads_may_be_repeated():
    assert of_callback("faxage", FAXAGE + "&else=1&else=2")[1] == []
