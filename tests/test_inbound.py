"""A notice of a fax that came in gets one answer from all providers: 2xx, ignored, counted, and nothing of it kept."""

from urllib.parse import quote_plus

import pytest
import sqlalchemy as sa
from house import EFAX_PASSWORD, EFAX_USER, house
from providers.samples import source

from receiver import providers, stations
from receiver.errors import Inbound
from receiver.providers import RawCallback, comes_in, read
from receiver.providers.shared.inbound import says_inbound

LOGIN = f"<AccessControl><UserName>{EFAX_USER}</UserName><Password>{EFAX_PASSWORD}</Password></AccessControl>"
INBOUND = [
    ("faxage", "recvid=1&recvdate=2026-07-07&cid=(208)555-0139&dnis=2085550140&pagecount=1"),
    ("openfax", "InTransID=77&AccountID=123456789&From=CANARY&PagesReceived=1"),
    ("openfax", "Direction=Inbound&FaxID=77&AccountID=123456789"),
    ("retarus", '{"inboundFax": {"number": "CANARY", "pages": 1}}'),
    ("retarus", "<n:InboundFax xmlns:n='x'><from>CANARY</from></n:InboundFax>"),
    ("retarus", '{"event": "fax_received", "data": {"id": 1}}'),
    ("retarus", "<faxJobReport><jobId>1</jobId><direction>IN</direction></faxJobReport>"),
    ("efax", "xml=" + quote_plus(f"<InboundPostRequest>{LOGIN}<FaxControl/></InboundPostRequest>")),
    ("efax", "xml=" + quote_plus(f"<NewInboundFax>{LOGIN}</NewInboundFax>")),
    ("efax", "xml=" + quote_plus(f'<Inbound UserName="{EFAX_USER}" Password="{EFAX_PASSWORD}"/>')),
]
OTHERS = [
    ("faxage", "a=b"),
    ("faxage", "recvid=1&jobid=2&shortstatus=odd"),
    ("openfax", "AccountID=123456789&From=inbound"),
    ("openfax", "OutTransID=1&AccountID=1&LastStatus=x&Direction=in+progress"),
    ("openfax", "AccountID=1&Direction=1"),
    ("openfax", "AccountID=1&Direction=in&Direction=out"),
    ("faxage", "redirection=in&id=1"),
    ("retarus", '{"jobs": [{"a": "inbound"}]}'),
    ("retarus", '{"jobId": "1", "inboundFax": {}}'),
    ("retarus", '{"inboundFaxes": 2, "outboundFaxes": 3}'),
    ("efax", "xml=" + quote_plus(f'<Status UserName="{EFAX_USER}" Password="{EFAX_PASSWORD}"/>')),
]


@pytest.mark.parametrize(("endpoint", "body"), INBOUND)
def test_an_inbound_notice_is_ignored_counted_and_not_kept(tmp_path, sqlite_url, endpoint, body):
    with house(tmp_path, sqlite_url) as server:
        answer = server.post(endpoint, body)
        assert answer.status == 200
        assert endpoint == "efax" or answer.json["status"] == "ignored"
        assert server.receipts() == [("ignored", "inbound")]
        assert server.events() == []
        with server.runtime.store.reading() as connection:
            assert connection.scalars(sa.select(server.runtime.store.tables.receipts.c.body)).all() == [None]
        counted = f'faxhook_receipts_total{{endpoint="{endpoint}",reason="inbound",state="ignored"}}'
        assert counted in server.ask("GET", "/metrics").body.decode()


@pytest.mark.parametrize(("endpoint", "body"), OTHERS)
def test_what_nobody_knows_is_not_taken_for_an_inbound_notice(tmp_path, sqlite_url, endpoint, body):
    with house(tmp_path, sqlite_url) as server:
        assert server.post(endpoint, body).status == 422
        assert server.receipts() == [("rejected", "unprocessable")]


# --- the spellings, and faxes that would be told otherwise --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("direction", word)
            for word in ("in", "IN", " In ", "inbound", "INBOUND", "incoming", "Incoming", "in-bound")
        ),
        *(("direction", word) for word in ("received", "Receive", "RX", "recv", "inbound_fax", "InboundFax", "faxIn")),
        *(("direction", word) for word in ("incoming fax", "FAX_RECEIVED", "infax", '"in"', ["in", "", "inbound"])),
        *((field, "in") for field in ("Direction", "FaxDirection", "fax_direction", "@direction", "DIRECTION", "dir")),
        ("direction", {"@type": "xs:string", "#text": "in"}),
        *(("RequestType", word) for word in ("New Inbound", "INCOMING_FAX", "fax.v1.inbound.complete", "inbound")),
        ("event_type", "inbound_fax"),
    ],
)
def test_a_direction_is_told_in_any_spelling(name, value):
    assert comes_in({"jobid": "1", name: value})
    assert says_inbound({"data": [{name: value}]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("direction", word) for word in ("out", "OUTBOUND", "outgoing", "sent", "tx", "", None, 1, "1", "0", "I")),
        *(
            ("direction", word)
            for word in ("in progress", "in/out", "inside", "information", ["in", "out"], {"a": "in"})
        ),
        *(("type", word) for word in ("in", "received", "outbound; inbound allowed", "complete")),
        *((field, "inbound") for field in ("redirection", "destname", "longstatus", "From", "reason")),
    ],
)
def test_what_may_mean_something_else_is_no_direction(name, value):
    assert not comes_in({"jobid": "1", name: value})


@pytest.mark.parametrize(
    "name",
    [
        *(
            "recvid",
            "recv_id",
            "rxFaxId",
            "InTransID",
            "InFaxID",
            "HistoryInboundFaxID",
            "HistoryInFaxID",
            "inboundfax",
        ),
        *("IncomingFax", "ReceivedFax", "received_at", "PagesReceived", "faxReceived", "@inboundId"),
    ],
)
def test_a_name_tells_where_no_fax_is_named(name):
    assert says_inbound({name: "1"})
    assert not comes_in({name: "1"})
    assert not says_inbound({name: "1", "OutboundFax": {}})


@pytest.mark.parametrize("value", ["fax.received", "FAX_RECEIVED", "received", "fax_inbound"])
def test_an_event_tells_where_no_fax_is_named(value):
    assert says_inbound({"event": value, "data": {"id": "1"}})


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("faxage", "jobid=1&shortstatus=success&direction=IN"),
        ("openfax", "OutTransID=1&AccountID=1&LastStatus=0&Direction=Incoming"),
        ("openfax", "OutTransID=1&AccountID=1&LastStatus=x&Direction=inbound"),
        ("retarus", '{"jobId": "1", "direction": "rx", "faxRecipients": [{"number": "1", "status": "OK"}]}'),
        ("retarus", '{"direction": "in", "reports": [{"jobId": "1", "recipientStatus": [{"status": "OK"}]}]}'),
        ("efax", "xml=<OutboundDisposition DOCID='1' FaxNumber='1' FaxStatus='0' Direction='Received'/>"),
    ],
)
def test_a_fax_that_came_in_is_never_told_as_one_that_was_sent(name, body):
    provider = providers.load()[name]
    with pytest.raises(Inbound):
        stations.understand(provider.push, read(RawCallback(body.encode()), provider.push), source(provider))


def test_the_other_jobs_of_a_push_are_told():
    job = '{{"jobId": "{0}", "direction": "{1}", "faxRecipients": [{{"number": "1", "status": "OK"}}]}}'
    body = f'{{"reports": [{job.format(1, "in")}, {job.format(2, "out")}]}}'
    provider = providers.load()["retarus"]
    entries, _ = stations.understand(provider.push, read(RawCallback(body.encode()), provider.push), source(provider))
    assert [entry.provider_job_id for entry in entries] == ["2"]
