"""A notice of a fax that came in gets one answer from all providers: 2xx, ignored, counted, and nothing of it kept."""

from urllib.parse import quote_plus

import pytest
import sqlalchemy as sa
from house import EFAX_PASSWORD, EFAX_USER, house

LOGIN = f"<AccessControl><UserName>{EFAX_USER}</UserName><Password>{EFAX_PASSWORD}</Password></AccessControl>"
INBOUND = [
    ("faxage", "recvid=1&recvdate=2026-07-07&cid=(208)555-0139&dnis=2085550140&pagecount=1"),
    ("openfax", "InTransID=77&AccountID=123456789&From=CANARY&PagesReceived=1"),
    ("openfax", "Direction=Inbound&FaxID=77&AccountID=123456789"),
    ("retarus", '{"inboundFax": {"number": "CANARY", "pages": 1}}'),
    ("retarus", "<n:InboundFax xmlns:n='x'><from>CANARY</from></n:InboundFax>"),
    ("efax", "xml=" + quote_plus(f"<InboundPostRequest>{LOGIN}<FaxControl/></InboundPostRequest>")),
]
OTHERS = [
    ("faxage", "a=b"),
    ("faxage", "recvid=1&jobid=2&shortstatus=odd"),
    ("openfax", "AccountID=123456789&From=inbound"),
    ("openfax", "OutTransID=1&AccountID=1&LastStatus=x&Direction=inbound"),
    ("retarus", '{"jobs": [{"a": "inbound"}]}'),
    ("retarus", '{"jobId": "1", "inboundFax": {}}'),
    ("efax", "xml=" + quote_plus(f'<Inbound UserName="{EFAX_USER}" Password="{EFAX_PASSWORD}"/>')),
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
            assert connection.execute(sa.select(server.runtime.store.tables.bodies.c.hash)).all() == []
        counted = f'faxhook_receipts_total{{endpoint="{endpoint}",reason="inbound",state="ignored"}}'
        assert counted in server.ask("GET", "/metrics").body.decode()


@pytest.mark.parametrize(("endpoint", "body"), OTHERS)
def test_what_nobody_knows_is_not_taken_for_an_inbound_notice(tmp_path, sqlite_url, endpoint, body):
    with house(tmp_path, sqlite_url) as server:
        assert server.post(endpoint, body).status == 422
        assert server.receipts() == [("rejected", "unprocessable")]
