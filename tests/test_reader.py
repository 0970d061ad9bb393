"""What ``faxhook consume`` makes of a reader that ends early, or only looks: embedded and RabbitMQ."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from queued import Queued, ids, queued, virtual_host
from stock import stock
from waiting import until

from receiver import settings

pytestmark = pytest.mark.service("rabbitmq")


class Embedded(Queued):
    """With the store as the queue."""

    @property
    def queue(self) -> settings.Queue:
        return self.runtime.settings.queue

    def fill_queue(self, count: int) -> set[str]:
        return self.fill(count)

    def waiting(self, queue: str = "") -> int:
        return self.states().get("pending", 0)


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with virtual_host() as made:
        yield made


@pytest.fixture(params=["embedded", "rabbitmq"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queued]:
    if request.param == "embedded":
        with stock(tmp_path, f"sqlite:///{tmp_path / 'faxhook.db'}") as it:
            yield Embedded(it.config, it.runtime)
    else:
        with queued(tmp_path, request.getfixturevalue("host")) as it:
            yield it


def piped(made: Queued, reader: list[str], *options: str) -> tuple[int, str, list[bytes]]:
    """Exit code and words of ``faxhook consume``, and what came out of its reader."""
    with made.start("consume", *options) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with subprocess.Popen(reader, stdin=process.stdout, stdout=subprocess.PIPE) as other:
            process.stdout.close()
            out, _ = other.communicate(timeout=120)
        said = process.stderr.read().decode()
        process.wait(120)
    return process.returncode, said, out.splitlines()


def test_head_costs_a_few_events_and_they_are_told_of(made: Queued) -> None:
    expected = made.fill_queue(120)
    code, said, (line,) = piped(made, ["head", "-1"])
    assert code == 1
    assert "faxhook: nobody reads standard output any more; " in said
    assert "acknowledged but perhaps not read: `faxhook events republish --since 20" in said
    until(lambda: made.waiting() >= 120 - 15)  # the first batches have 1, 2, 4 and 8 events
    told = int(said.partition("; ")[2].partition(" ")[0])
    assert told == 120 - made.waiting()
    since = said.rpartition("--since ")[2].rstrip("`\n")
    assert since == json.loads(line)["data"]["observed_at"]
    assert ids([line])[0] in expected


def test_a_reader_that_reads_nothing_costs_nothing(made: Queued) -> None:
    expected = made.fill_queue(120)
    code, said, lines = piped(made, ["true"])
    assert (code, lines) == (1, [])
    assert said == ("faxhook: nobody reads standard output any more; nothing that it did not read was acknowledged\n")
    until(lambda: made.waiting() == 120)
    assert set(ids(made.consumed())) == expected


def test_a_reader_that_gets_what_it_wanted_is_no_trouble(made: Queued) -> None:
    made.fill_queue(3)
    code, said, lines = piped(made, ["head", "-3"], "--max", "3")
    assert (code, said, len(lines)) == (0, "", 3)
    assert made.waiting() == 0


@pytest.mark.parametrize("count", [3, 120])
def test_peek_shows_all_and_takes_nothing(made: Queued, count: int) -> None:
    expected = made.fill_queue(count)
    shown = made.consumed("--peek")
    assert set(ids(shown)) == expected
    assert len(made.consumed("--peek", "--max", "2")) == 2
    until(lambda: made.waiting() == count)
    consumed = made.consumed()
    assert sorted(consumed) == sorted(shown)
    assert consumed == shown or not isinstance(made, Embedded)  # a quorum queue does not keep the order
    assert made.consumed("--peek") == []


def test_peek_shows_every_revision_of_a_fax(made: Queued) -> None:
    made.fax(1, status="0")
    made.fax(1, status="2")
    if not isinstance(made, Embedded):
        made.send()
    assert [json.loads(line)["data"]["revision"] for line in made.consumed("--peek")] == [1, 2]


def test_peek_into_a_pipe_that_ends_is_no_trouble(made: Queued) -> None:
    made.fill_queue(120)
    code, said, lines = piped(made, ["head", "-1"], "--peek")
    assert (code, said, len(lines)) == (0, "", 1)
    until(lambda: made.waiting() == 120)


def test_peek_does_not_wait(made: Queued) -> None:
    for option in (["--follow"], ["--idle-seconds", "1"]):
        process = made.start("consume", "--peek", *option)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2
        assert b"--peek" in err
