"""What schemas/README.md says of queues, checked in the real RabbitMQ."""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from queued import Queued, queued, virtual_host
from stock import environment
from waiting import until

from schemas.envelope import AMENDED, COMPLETED, routing_key
from schemas.event import Outcome

README = (Path(__file__).parents[1] / "schemas" / "README.md").read_text()
SECTION = README.partition("### Queues of your own\n")[2].partition("\n### ")[0]
ROWS = re.findall(r"^\| ([^|`]+) \| (`.+`[^|]*) \|$", SECTION, re.MULTILINE)
KEYS = {routing_key(type_, outcome) for type_ in (COMPLETED, AMENDED) for outcome in Outcome}

# What each line of the table promises, said once more and otherwise: wanted type, wanted outcome.
PROMISED = {
    "everything": lambda type_, outcome: True,
    "the first announcement of each fax, and no corrections": lambda type_, outcome: type_ == "completed",
    "only corrections": lambda type_, outcome: type_ == "amended",
    "only failures, also those that were learned later": lambda type_, outcome: outcome == "failed",
    "failures, and whether they still are ones": lambda type_, outcome: type_ == "amended" or outcome == "failed",
    "what is to be looked at by a person": lambda type_, outcome: outcome in ("failed", "unconfirmed"),
}

pytestmark = pytest.mark.service("rabbitmq")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queued]:
    """With the names that a configuration has unless it says otherwise, and the queue made by the relay."""
    with virtual_host() as url, queued(tmp_path_factory.mktemp("bindings"), url, 'queue = "fax.completed"') as it:
        it.fill_queue(1)
        yield it


def test_the_table_promises_what_is_checked_here() -> None:
    assert [what for what, _ in ROWS] == list(PROMISED)
    assert len(KEYS) == 8


@pytest.mark.parametrize(("what", "bound"), ROWS)
def test_bindings_bring_what_they_are_said_to_bring(made: Queued, what: str, bound: str) -> None:
    expected = {key for key in KEYS if PROMISED[what](*key.split(".")[1:])}
    for alternative in bound.split(", or "):
        with made.channel() as channel:
            queue = channel.queue_declare(exclusive=True).queue
            for pattern in re.findall("`(.+?)`", alternative):
                channel.queue_bind(queue, "fax.events", pattern)
            for key in KEYS:
                message = channel.prepare_message(b"{}")
                channel.basic_publish(message, exchange="fax.events", routing_key=key)
            assert routed(channel, queue) == expected


def routed(channel: Any, queue: str) -> set[str]:
    """The routing keys of what a queue has got; each once."""
    found: list[str] = []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        found.append(message.delivery_info["routing_key"])
    assert len(found) == len(set(found))
    return set(found)


def declare_failures(made: Queued) -> None:
    (program,) = re.findall(r"^```py\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", program, made.queue.url], env=environment(), check=True, timeout=120)


def test_the_example_binds_a_queue_to_failures_and_its_dead_letters_arrive(made: Queued) -> None:
    declare_failures(made)
    made.fax(1, status="0")
    made.fax(2, status="2")
    made.fax(1, status="2")  # was delivered, and failed after all
    made.send()
    dead = made.waiting("fax.completed.dead")
    with made.channel() as channel:
        got = []
        until(lambda: got.append(channel.basic_get("reception.failed-faxes")) or len([x for x in got if x]) == 2)
        messages = [message for message in got if message]
        keys = [message.delivery_info["routing_key"] for message in messages]
        assert sorted(keys) == ["fax.amended.failed", "fax.completed.failed"]
        for message in messages:
            channel.basic_reject(message.delivery_tag, requeue=False)
    until(lambda: made.waiting("fax.completed.dead") == dead + 2)


def test_a_republished_event_goes_to_every_bound_queue(made: Queued) -> None:
    declare_failures(made)
    made.fax(3, status="2")
    made.send()
    before = made.waiting("reception.failed-faxes")
    in_ours = made.waiting("fax.completed")
    event_id = next(event["id"] for event in made.events() if event["outcome"] == "failed")
    process = made.start("events", "republish", "--id", event_id)
    process.communicate(timeout=120)
    assert process.returncode == 0
    made.send()
    until(lambda: made.waiting("reception.failed-faxes") == before + 1)
    until(lambda: made.waiting("fax.completed") == in_ours + 1)


# --- the consumer of the README --------------------------------------------------------------------------------------

CONSUMING = README.partition("### From RabbitMQ, with kombu\n")[2].partition("\n## ")[0]
(SNIPPET,) = re.findall(r"^```py\n(.*?)^```$", CONSUMING, re.MULTILINE | re.DOTALL)


_numbers = itertools.count(5000)


def put(made: Queued, count: int) -> None:
    """So many new events."""
    for _ in range(count):
        made.fax(next(_numbers))
    made.send()


def outcomes(made: Queued, program: str, *, errors: bool = False) -> list[str]:
    """What the program writes about two events, until it has written two lines."""
    put(made, 2)
    command = [sys.executable, "-u", "-c", program, made.queue.url]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stream = process.stderr if errors else process.stdout
        assert stream is not None
        lines = [stream.readline().decode() for _ in range(2)]
        if not errors:
            until(lambda: made.waiting() == 0)
        process.terminate()
    return lines


def test_the_consumer_of_the_readme_takes_events_and_comes_back(made: Queued) -> None:
    with made.channel() as channel:  # of what the tests above have left, which is no event
        channel.queue_purge(made.queue.queue)
    assert [line.split()[1] for line in outcomes(made, SNIPPET)] == ["fax.completed.v1"] * 2
    assert made.consumed() == []


def test_declaring_the_queue_is_a_406_as_the_readme_says(made: Queued) -> None:
    assert ", no_declare=True" in SNIPPET
    said = outcomes(made, SNIPPET.replace(", no_declare=True", ""), errors=True)
    assert said == ["RabbitMQ is away: PreconditionFailed\n"] * 2
    made.consumed()


def test_an_accept_without_the_content_type_is_refused_as_the_readme_says(made: Queued) -> None:
    put(made, 1)
    program = SNIPPET.replace("accept=[CONTENT_TYPE]", 'accept=["json"]')
    assert program != SNIPPET
    command = [sys.executable, "-c", program, made.queue.url]
    run = subprocess.run(command, env=environment(), capture_output=True, timeout=60, check=False)
    assert b"ContentDisallowed" in run.stderr
    until(lambda: made.waiting() >= 1)
    made.consumed()


def test_the_readme_lists_the_properties_of_a_message(made: Queued) -> None:
    put(made, 1)
    with made.channel() as channel:
        message = channel.basic_get(made.queue.queue, no_ack=True)
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", CONSUMING, re.MULTILINE))
    assert set(listed) - {"headers"} == set(message.properties) - {"application_headers"}
    headers = set(message.properties["application_headers"]) - {"x-delivery-count"}  # RabbitMQ's own
    assert headers == set(re.findall("`([a-z]+)`", listed["headers"]))
    for name in ("content_type", "content_encoding", "app_id"):
        assert listed[name] == f"`{message.properties[name]}`"
