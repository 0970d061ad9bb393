"""SQS and SNS, FIFO, pass the contract against moto's server."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from contract import Contract, Received, Stand, message, opened, troubled
from moto.server import ThreadedMotoServer
from ports import free_port

from receiver.errors import ConfigurationError
from receiver.outgoing.sinks import aws, publisher
from receiver.settings import Sink

_CANNOT = MappingProxyType(
    {
        "who_is_not_let_in_is_told_so": "moto lets everybody in",
        "tls_is_checked": "moto speaks plain HTTP; the check is botocore's own",
    }
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    at = free_port()
    server = ThreadedMotoServer("127.0.0.1", at, verbose=False)
    server.start()
    yield at
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "eu-central-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


class SqsStand(Stand):
    name = "SQS"
    many = 150  # moto takes a few at a time
    cannot = _CANNOT

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.client: Any = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}")
        fifo = {"FifoQueue": "true"}
        made = self.client.create_queue(QueueName=f"q{secrets.token_hex(4)}.fifo", Attributes=fifo)
        self.queue: str = made["QueueUrl"]
        self._received: list[Received] = []

    def sink(self, **changes: Any) -> Sink:
        path = self.queue.split("/", 3)[3]
        return replace(Sink("contract", f"sqs:http://127.0.0.1:{self.cable.port}/{path}"), **changes)

    def received(self) -> list[Received]:
        while some := self.client.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages"):
            for one in some:
                self._received.append((one["Attributes"]["MessageDeduplicationId"], one["Body"].encode()))
                self.client.delete_message(QueueUrl=self.queue, ReceiptHandle=one["ReceiptHandle"])
        return self._received

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(aws, "CONNECT_SECONDS", 1.0)
        patch.setattr(aws, "ANSWER_SECONDS", 1.0)

    @contextmanager
    def unroutable(self) -> Iterator[Sink]:
        yield self.sink(url=f"sqs:http://127.0.0.1:{self.cable.port}/123456789012/elsewhere.fifo")

    def close(self) -> None:
        super().close()
        self.client.close()


class SnsStand(SqsStand):
    """A topic, and a queue that gets what goes there."""

    name = "SNS"

    def __init__(self, port: int, patch: pytest.MonkeyPatch) -> None:
        super().__init__(port)
        patch.setenv("AWS_ENDPOINT_URL_SNS", f"http://127.0.0.1:{self.cable.port}")
        sns = boto3.client("sns", endpoint_url=f"http://127.0.0.1:{port}")
        name = f"t{secrets.token_hex(4)}.fifo"
        self.topic = sns.create_topic(Name=name, Attributes={"FifoTopic": "true"})["TopicArn"]
        arn = self.client.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]
        raw = {"RawMessageDelivery": "true"}
        sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn["QueueArn"], Attributes=raw)
        sns.close()

    def sink(self, **changes: Any) -> Sink:
        return replace(Sink("contract", f"sns:{self.topic}"), **changes)

    @contextmanager
    def unroutable(self) -> Iterator[Sink]:
        yield self.sink(url="sns:arn:aws:sns:eu-central-1:123456789012:elsewhere.fifo")


class TestSqs(Contract):
    @pytest.fixture
    def stand(self, port: int, credentials: None) -> Iterator[SqsStand]:
        made = SqsStand(port)
        yield made
        made.close()

    def test_what_comes_twice_is_dropped(self, stand: SqsStand, tmp_path: Path) -> None:
        sent = message()
        with opened(stand.sink(), tmp_path) as one:
            for _ in range(2):
                assert one.publish([sent]).confirmed == {sent.event_id}
        assert stand.received() == [(sent.event_id, sent.body)]

    def test_large_events_go_in_requests_of_their_own(self, stand: SqsStand, tmp_path: Path) -> None:
        messages = [message(size=100_000) for _ in range(7)]
        with opened(stand.sink(), tmp_path) as one:
            assert len(one.publish(messages).confirmed) == 7


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("RequestThrottled", "slow"),
        ("KMS.ThrottlingException", "slow"),
        ("KmsAccessDenied", "forbidden"),
        ("InternalError", "failing"),
    ],
)
def test_only_what_is_about_the_message_is_its_fault(
    port: int, credentials: None, tmp_path: Path, code: str, kind: str
) -> None:
    """Amazon says "SenderFault" of throttling and of keys too; an outage parks nothing."""
    stand, sent = SqsStand(port), [message(), message()]
    with opened(stand.sink(), tmp_path) as one:
        one.publish([message()])
        stubber = Stubber(one._client)
        failed = [{"Id": "0", "SenderFault": True, "Code": code}, {"Id": "1", "SenderFault": True, "Code": code}]
        stubber.add_response("send_message_batch", {"Successful": [], "Failed": failed})
        failed = [{"Id": "0", "SenderFault": True, "Code": "InvalidMessageContents"}]
        taken = [{"Id": "1", "MessageId": "x", "MD5OfMessageBody": "x"}]
        stubber.add_response("send_message_batch", {"Successful": taken, "Failed": failed})
        with stubber:
            client = one._client
            result = one.publish(sent)
            assert (troubled(result), result.refused) == (kind, set())
            one._client = client
            result = one.publish(sent)
            assert (result.refused, result.confirmed) == ({sent[0].event_id}, {sent[1].event_id})
    stand.close()


class TestSns(Contract):
    @pytest.fixture
    def stand(self, port: int, credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SnsStand]:
        with pytest.MonkeyPatch.context() as patch:
            made = SnsStand(port, patch)
            yield made
            made.close()


@pytest.mark.parametrize(
    "url",
    ["sqs:https://sqs.eu-central-1.amazonaws.com/1/faxes", "sqs:faxes.fifo", "sns:faxes.fifo", "sns:arn:aws:sns:x:y:z"],
)
def test_a_url_that_cannot_be_one_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sinks\.x\.url"):
        publisher(Sink("x", url), tmp_path)


def test_the_region_is_that_of_the_queue() -> None:
    sink = Sink("x", "sqs:https://sqs.us-west-2.amazonaws.com/123456789012/faxes.fifo")
    assert aws.Aws(sink)._region == "us-west-2"
