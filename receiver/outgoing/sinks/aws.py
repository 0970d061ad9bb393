"""
SQS and SNS, FIFO alone: an event has arrived when the answer names its entry as taken.

The fax is the message group, so that its events stay in order; the event's id is the deduplication id.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError

from receiver.errors import BadValue, BrokerTrouble
from receiver.outgoing import formats
from receiver.outgoing.broker_errors import diagnose, words
from receiver.outgoing.contract import Message, Result
from receiver.outgoing.formats import Packed
from receiver.settings import Sink
from receiver.system.stopping import Stop

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
_ENTRIES = 10  # in a request
_LARGEST = 256 * 1024  # bytes of a request, with all its entries
_BESIDE = 2048  # of these for attributes
_OF_THE_MESSAGE = ("InvalidMessageContents", "MessageTooLong")
_FORBIDDEN = (
    *("AccessDenied", "AuthorizationError", "InvalidClientTokenId"),
    *("SignatureDoesNotMatch", "UnrecognizedClient", "ExpiredToken"),
)
_MISSING = ("NonExistentQueue", "QueueDoesNotExist", "NotFound", "InvalidAddress")
_SLOW = ("Throttl", "RequestThrottled", "OverLimit", "TooManyRequests")


def make(sink: Sink, _state_dir: Path) -> "Aws":
    return Aws(sink)


class Aws:
    """See ``receiver.outgoing.contract``. The credentials are the environment's: variables, profile or role."""

    most = 50
    longest_delay = 60.0
    largest = _LARGEST - _BESIDE

    def __init__(self, sink: Sink) -> None:
        """Raises BadValue for a URL that cannot be one."""
        self._service, _, self._target = sink.url.partition(":")
        self._form = sink.format
        parts = urlsplit(self._target)
        if not self._target.endswith(".fifo"):
            raise BadValue("expected the name of a FIFO queue or topic, which ends in .fifo: others keep no order")
        if self._service == "sqs":
            if parts.scheme not in ("https", "http") or not parts.hostname:
                raise BadValue("expected sqs: and the queue's URL, as in sqs:https://sqs.eu-central-1.amazonaws.com/…")
            self._endpoint: str | None = f"{parts.scheme}://{parts.netloc}"
            self._region = _region(parts.hostname.split("."))
            self._place = f"sqs:{self._endpoint}"
        else:
            pieces = self._target.split(":")
            if len(pieces) != 6 or pieces[0] != "arn":
                raise BadValue("expected sns: and the topic's ARN, as in sns:arn:aws:sns:eu-central-1:123456789012:…")
            self._endpoint, self._region = None, pieces[3]
            self._place = f"sns:{self._region}"
        self._client: Any = None

    def publish(self, messages: Sequence[Message]) -> Result:
        result = Result()
        try:
            for some in _requests(messages, self._form):
                self._send(some, result)
                if result.trouble is not None:
                    break
        except Exception as error:  # noqa: BLE001 - botocore's many, urllib3's and TLS's
            result.trouble = self._diagnosed(error)
        if result.trouble is not None:
            self._client = None
        return result

    def idle(self) -> None:
        """Nothing is needed: each request stands alone."""

    def close(self, stop: Stop) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _send(self, some: Sequence[tuple[Message, Packed]], result: Result) -> None:
        if self._client is None:
            config = Config(
                connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 1}
            )
            self._client = boto3.client(
                self._service, endpoint_url=self._endpoint, region_name=self._region, config=config
            )
        entries = [self._entry(number, message, packed) for number, (message, packed) in enumerate(some)]
        if self._service == "sqs":
            answer = self._client.send_message_batch(QueueUrl=self._target, Entries=entries)
        else:
            answer = self._client.publish_batch(TopicArn=self._target, PublishBatchRequestEntries=entries)
        for taken in answer.get("Successful", ()):
            result.confirmed.add(some[int(taken["Id"])][0].event_id)
        for failed in answer.get("Failed", ()):
            code = str(failed.get("Code", ""))
            if any(part in code for part in _OF_THE_MESSAGE):  # "SenderFault" is also said of throttling and of keys
                result.refused.add(some[int(failed["Id"])][0].event_id)
            else:
                result.trouble = self._trouble(_kind(code))

    def _entry(self, number: int, message: Message, packed: Packed) -> dict[str, Any]:
        attributes = {"content-type": packed.content_type}
        # Ten at most: with those of CloudEvents there is no place for what they say already.
        attributes |= {f"ce-{name}": value for name, value in packed.attributes.items()} or packed.headers
        return {
            "Id": str(number),
            ("MessageBody" if self._service == "sqs" else "Message"): packed.body.decode(),
            "MessageGroupId": message.fax_id,
            "MessageDeduplicationId": message.event_id,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        }

    def _diagnosed(self, error: Exception) -> BrokerTrouble:
        if isinstance(error, ClientError):
            return self._trouble(_kind(str(error.response.get("Error", {}).get("Code", ""))), error)
        if "Timeout" in type(error).__name__:
            return self._trouble("timeout", error)
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
            return self._trouble("forbidden", error)
        kind, said = diagnose(error, (EndpointConnectionError, HTTPClientError))
        if isinstance(error, BotoCoreError) and kind == "client":
            said = words(kind)
        return BrokerTrouble(kind, error, f"{self._place}: {said}")

    def _trouble(self, kind: str, error: Exception | None = None) -> BrokerTrouble:
        return BrokerTrouble(kind, error, f"{self._place}: {words(kind)}")


def _kind(code: str) -> str:
    for kind, parts in (("forbidden", _FORBIDDEN), ("missing", _MISSING), ("slow", _SLOW)):
        if any(part in code for part in parts):
            return kind
    return "failing"


def _region(host: Sequence[str]) -> str | None:
    """Amazon's own hosts name it; elsewhere the environment does."""
    if len(host) > 2 and host[0] == "sqs":
        return host[1]
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def _requests(messages: Sequence[Message], form: str) -> Iterator[list[tuple[Message, Packed]]]:
    """As many as fit into a request."""
    some: list[tuple[Message, Packed]] = []
    size = 0
    for message in messages:
        packed = formats.packed(message, form)
        if some and (len(some) == _ENTRIES or size + len(packed.body) + _BESIDE > _LARGEST):
            yield some
            some, size = [], 0
        some.append((message, packed))
        size += len(packed.body) + _BESIDE
    if some:
        yield some
