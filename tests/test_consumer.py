"""``faxhook consume`` as a process: killed, interrupted, cut off from its reader and from its store."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from stock import Stock
from waiting import terminate_twice, until

STUCK = 32  # events in the batch that a full pipe stops, after batches of 1, 2, 4, 8 and 16


def consumed(made: Stock, *options: str) -> list[bytes]:
    process = made.start("consume", *options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


def ids(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["id"] for line in lines]


def test_each_line_is_exactly_the_stored_envelope(anywhere: Stock) -> None:
    expected = anywhere.fill(60)
    lines = consumed(anywhere)
    assert len(lines) == 60
    assert set(ids(lines)) == expected
    assert all(line == anywhere.payload(event_id) for line, event_id in zip(lines, ids(lines), strict=True))
    assert anywhere.states() == {"published": 60}
    assert consumed(anywhere) == []


def test_max_leaves_the_rest_pending_and_never_leased(filled: Stock) -> None:
    filled.fill(5)
    assert len(consumed(filled, "--max", "3")) == 3
    assert filled.states() == {"published": 3, "pending": 2}
    assert len(consumed(filled, "--max", "3", "--follow", "--idle-seconds", "0.3")) == 2


def test_events_of_one_fax_come_in_the_order_of_their_revisions(filled: Stock) -> None:
    filled.fax(1, status="0")
    filled.fax(1, status="2")
    lines = [json.loads(line) for line in consumed(filled)]
    assert [line["data"]["revision"] for line in lines] == [1, 2]
    assert [line["data"]["outcome"] for line in lines] == ["delivered", "failed"]


def test_a_follower_gets_an_event_within_moments_and_ends_at_sigterm(anywhere: Stock) -> None:
    with anywhere.start("consume", "--follow") as process:
        anywhere.fax(1)
        assert process.stdout is not None
        process.stdout.readline()  # it is up
        started = time.monotonic()
        anywhere.fax(2)
        assert json.loads(process.stdout.readline())["data"]["provider_job_id"] == "2"
        assert time.monotonic() - started < 30
        until(lambda: anywhere.states() == {"published": 2})
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_what_a_killed_consumer_had_not_acknowledged_goes_to_the_next(anywhere: Stock) -> None:
    """It is killed while the pipe is full, in the middle of a batch: part of it is read by somebody, part by nobody."""
    expected = anywhere.fill(160)
    with anywhere.start("consume", "--follow") as process:
        until(lambda: anywhere.states().get("leased") == STUCK)
        time.sleep(0.2)
        assert anywhere.states()["leased"] == STUCK  # it waits for its reader
        process.kill()
        assert process.stdout is not None
        read = process.stdout.read().splitlines(keepends=True)
    whole = [line for line in read if line.endswith(b"\n")]
    acknowledged = anywhere.states()["published"]
    following = consumed(anywhere)
    assert len(following) == len(expected) - acknowledged
    assert set(ids(whole)) | set(ids(following)) == expected
    assert anywhere.states() == {"published": 160}


def test_sigterm_ends_a_consumer_whose_reader_does_not_read_and_its_events_are_given_back(filled: Stock) -> None:
    expected = filled.fill(160)
    with filled.start("consume", "--follow") as process:
        until(lambda: filled.states().get("leased") == STUCK)
        time.sleep(0.2)
        terminate_twice(process)  # the second one ends the wait for the reader
        assert process.wait(60) == 0
        assert process.stdout is not None
        read = process.stdout.read().splitlines(keepends=True)
    assert "leased" not in filled.states()
    following = consumed(filled)
    assert set(ids([line for line in read if line.endswith(b"\n")])) | set(ids(following)) == expected


def test_a_reader_that_goes_away_ends_it_and_what_it_may_not_have_read_is_told(filled: Stock) -> None:
    filled.fill(3)
    with filled.start("consume", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        until(lambda: filled.states() == {"published": 3})
        process.stdout.close()
        filled.fax(1)
        assert process.wait(60) == 1
        assert b"3 events were acknowledged but perhaps not read" in process.stderr.read()
    assert filled.states() == {"published": 3, "pending": 1}


def test_a_full_disk_behind_standard_output_is_trouble_and_nothing_is_lost(filled: Stock) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    filled.fill(3)
    with open("/dev/full", "wb") as full:
        process = filled.start("consume", stdout=full)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"standard output" in err
    assert filled.states() == {"pending": 3}


def test_two_consumers_share_the_events(anywhere: Stock) -> None:
    expected = anywhere.fill(120)
    processes = [anywhere.start("consume", "--idle-seconds", "0.5") for _ in range(2)]
    lines = [line for process in processes for line in process.communicate(timeout=120)[0].splitlines()]
    assert sorted(ids(lines)) == sorted(expected)


def test_a_damaged_event_is_parked_and_the_others_go_on(filled: Stock) -> None:
    filled.fill(3)
    filled.rewrite(filled.events()[1]["id"], body=b"{}")
    process = filled.start("consume")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(out.splitlines()) == 2
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["event_damaged"]
    assert filled.states() == {"published": 2, "dead": 1}


def test_a_follower_waits_for_a_store_that_is_away(filled: Stock, tmp_path: Path) -> None:
    file = tmp_path / "store" / "faxhook.db"
    filled.fax(1)
    with filled.start("consume", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        until(lambda: filled.states() == {"published": 1})
        filled.runtime.store.close()
        file.rename(file.with_name("elsewhere"))
        assert json.loads(process.stderr.readline())["event"] == "store_unavailable"
        file.with_name("elsewhere").rename(file)
        filled.fax(2)
        assert json.loads(process.stdout.readline())["data"]["provider_job_id"] == "2"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_without_a_store_there_is_nothing_to_consume(filled: Stock, tmp_path: Path) -> None:
    filled.runtime.store.close()
    (tmp_path / "store" / "faxhook.db").unlink()
    process = filled.start("consume")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == b""
    assert b"faxhook migrate" in err


def test_a_consumer_that_lost_its_lease_publishes_nothing_twice_as_its_own(filled: Stock) -> None:
    """Its reader was too slow: another consumer has the events, and the late acknowledgement does not count."""
    filled.fill(160)
    waiting = filled.runtime.store.tables.waiting
    with filled.start("consume", "--follow") as process:
        until(lambda: filled.states().get("leased") == STUCK)
        with filled.runtime.store.writing() as connection:
            leased = waiting.c.holder.is_not(None)
            connection.execute(waiting.update().where(leased).values(holder="another/1/1"))
        assert process.stdout is not None
        for _ in range(160):
            process.stdout.readline()
        until(lambda: filled.states().get("published") == 160 - STUCK)
        assert filled.states() == {"published": 160 - STUCK, "leased": STUCK}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    with filled.runtime.store.reading() as connection:
        owners = connection.scalars(sa.select(waiting.c.holder).where(leased).distinct()).all()
    assert owners == ["another/1/1"]


def test_a_follower_at_rest_costs_next_to_nothing(filled: Stock) -> None:
    filled.fax(1)
    with filled.start("consume", "--follow", stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = _cpu_seconds(process.pid)
        time.sleep(1.5)
        assert _cpu_seconds(process.pid) - before < 0.15
        process.terminate()
        assert process.wait(60) == 0


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        pytest.skip("no /proc")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
