"""A RabbitMQ of our own that is stopped, frozen, short of memory, or says no; callbacks do not notice."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import Line, Node, running_node
from served import check, p99, relay_of, running, serving, shown
from stock import Stock
from test_delivery import deliver, opened, reasons
from waiting import until

from receiver.outgoing import publisher as publishing
from receiver.store.submissions import checksum

# A node takes long to begin and to come back, so that these are part of the campaign.
pytestmark = [pytest.mark.service("rabbitmq"), pytest.mark.campaign]


@pytest.fixture
def own(node: Node) -> Iterator[Line]:
    """A line on the node of our own."""
    line = node.line()
    yield line
    line.remove()


# --- what the broker says to a row or to us --------------------------------------------------------------------------


def test_an_event_too_large_for_the_broker_is_parked_after_three_tries_and_alone(
    filled: Stock, own: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.fill(30)
    large = filled.events()[12]["id"]
    body = json.dumps({"id": large, "x": "x" * 2 * Node.largest}).encode()
    filled.rewrite(large, body=body, checksum=checksum(large, body))
    with opened(filled, own.settings(), tmp_path) as one:
        one.step()
        assert filled.states() == {"published": 29, "pending": 1}
        one.step()
        assert filled.states() == {"published": 29, "pending": 1}
        one.step()
        assert filled.states() == {"published": 29, "dead": 1}
    assert reasons(capsys, "dead_letter") == ["refused"]
    received = [one.event_id for one in own.take()]
    assert sorted(set(received)) == sorted(event["id"] for event in filled.events() if event["id"] != large)


def test_without_the_right_to_configure_it_works_when_it_need_not_declare(
    filled: Stock, own: Line, node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = own.exchange.replace(".", "")
    url = own.url.replace("guest:guest", f"{user}:secret")
    node.ctl("add_user", user, "secret")
    node.ctl("set_permissions", user, "", ".*", "")
    own.make()
    filled.fill(2)
    with opened(filled, own.settings(url=url, declare=False), tmp_path) as one:
        deliver(one, filled, published=2)
        node.ctl("set_permissions", user, "", "nothing", "")
        filled.fax(1)
        one._publisher.broker.discard()  # RabbitMQ remembers for a connection what it may do
        assert one.step() == 0
        assert reasons(capsys) == ["forbidden"]
        assert filled.states() == {"published": 2, "pending": 1}
        node.ctl("set_permissions", user, "", ".*", "")
        deliver(one, filled, published=3)
    assert len(own.take()) == 3


# --- it does not answer ----------------------------------------------------------------------------------------------


def test_a_confirm_that_comes_late_is_not_taken_for_another_message(
    filled: Stock, own: Line, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CONFIRM_SECONDS", 0.5)
    monkeypatch.setattr(publishing, "_SLICE_SECONDS", 0.1)
    own.make()
    filled.fax(1000)
    with opened(filled, own.settings(declare=False), tmp_path) as one:
        deliver(one, filled, published=1)
        filled.fax(1)
        with node.frozen():
            one.step()
            assert one.trouble == "timeout"
        # Its late confirm is on its way; the next message must not be taken.
        with own.channel() as channel:
            until(lambda: channel.queue_declare(own.queue, passive=True).message_count >= 2)
            channel.queue_unbind(own.queue, own.exchange, "fax.#")
        filled.fax(2)
        for _ in range(3):
            one.step()
        assert one.trouble == "unroutable"
        assert filled.states() == {"published": 1, "pending": 2}
        own.bind()
        deliver(one, filled, published=3)
    jobs = [json.loads(one.body)["data"]["provider_job_id"] for one in own.take()]
    assert sorted(set(jobs)) == ["1", "1000", "2"]
    assert jobs.count("2") == 1


def test_a_connection_lost_while_idle_loses_nothing(filled: Stock, own: Line, node: Node, tmp_path: Path) -> None:
    with opened(filled, own.settings(), tmp_path) as one:
        filled.fax(1)
        deliver(one, filled, published=1)
        node.ctl("close_all_connections", "test")
        filled.fax(2)
        deliver(one, filled, published=2)
        node.ctl("close_all_connections", "test")
        until(lambda: one.idle() or not one._publisher.broker.is_open)
        filled.fax(3)
        deliver(one, filled, published=3)
    assert len(own.take()) == 3


def test_during_an_alarm_the_relay_keeps_its_connection_and_makes_no_copies(
    filled: Stock, own: Line, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_SLICE_SECONDS", 0.2)
    with opened(filled, own.settings(), tmp_path) as one:
        filled.fax(1000)
        deliver(one, filled, published=1)
        with node.alarmed():
            filled.fill(20)
            started = time.monotonic()
            for _ in range(4):
                assert one.step() == 0
                one.idle()
            assert time.monotonic() - started < 60
            assert one.trouble == "blocked"
            channel = one._publisher.broker.channel
            filled.fax(1)
            one.step()
            assert one._publisher.broker.channel is channel is not None
            assert filled.states()["published"] == 1
        deliver(one, filled, published=len(filled.events()))
        assert one.trouble is None
    received = [one.event_id for one in own.take()]
    assert sorted(received) == sorted(event["id"] for event in filled.events())


# --- the whole service -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "trouble"), [("frozen", "timeout"), ("alarmed", "blocked")])
def test_callbacks_do_not_notice_a_broker_that_stalls_and_sigterm_ends_it_all(
    tmp_path: Path, sqlite_url: str, node: Node, own: Line, fault: str, trouble: str
) -> None:
    with serving(tmp_path, sqlite_url, own) as (made, load):
        with running(made, "serve") as process:
            until(lambda: load.is_up())
            load.run(0.3)
            until(lambda: set(made.states()) == {"published"})
            calm = p99(load.run(1.5))
            with getattr(node, fault)():
                troubled = p99(load.run(2.5))
                print(f"{fault}: p99 {troubled * 1000:.0f} ms, calm {calm * 1000:.0f} ms, ratio {troubled / calm:.1f}")
                assert troubled < 10
                if fault == "alarmed":
                    until(lambda: shown(made) == trouble)
                assert made.states()["pending"] > 0
                process.terminate()
                assert process.wait(60) == 0
                assert '"killed"' not in (tmp_path / "serve.log").read_text()
        with running(made, "serve") as process:
            until(lambda: set(made.states()) == {"published"})
            process.terminate()
            assert process.wait(60) == 0
        check(made, own.take(), load)


def test_a_stopped_broker_and_a_killed_relay_change_no_answer_and_lose_nothing(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "node").mkdir()
    # A node of its own: one that has been frozen or alarmed before did not always stop and start again.
    with (
        running_node(tmp_path / "node") as node,
        serving(tmp_path, sqlite_url, own := node.line()) as (made, load),
        running(made, "serve") as process,
    ):
        until(lambda: load.is_up())
        load.run(0.3)
        until(lambda: set(made.states()) == {"published"})
        calm = p99(load.run(1))
        fault = threading.Event()

        def stop_and_start() -> None:
            with node.stopped():
                fault.wait(120)

        thread = threading.Thread(target=stop_and_start)
        thread.start()
        troubled = p99(load.run(4))
        print(f"stopped: p99 {troubled * 1000:.0f} ms, calm {calm * 1000:.0f} ms, ratio {troubled / calm:.1f}")
        assert troubled < 10
        until(lambda: shown(made) == "connection")
        fault.set()
        thread.join()
        load.run(0.5)
        until(lambda: set(made.states()) == {"published"})
        killed = relay_of(process)
        os.kill(killed, signal.SIGKILL)
        load.run(0.5)
        until(lambda: relay_of(process) not in (0, killed))
        until(lambda: set(made.states()) == {"published"})
        until(lambda: shown(made) is None)
        process.terminate()
        assert process.wait(60) == 0
        check(made, own.take(), load)
