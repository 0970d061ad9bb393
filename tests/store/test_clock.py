"""Whether retention may believe the clock: jumps, restarts, sleep, and the database's clock."""

import json

import pytest
import sqlalchemy as sa

from receiver.store import now_ms
from receiver.store.clock import AHEAD_SECONDS, STEADY_SECONDS, RetentionClock, doubted_since_ms
from receiver.store.leading import sign_of_life

DAY = 86_400


class Machine:
    """Two clocks to be set by hand, in seconds from now."""

    def __init__(self):
        self.began_ms = now_ms()
        self.wall = 0.0
        self.monotonic = 1000.0

    def clock(self):
        return RetentionClock(lambda: self.began_ms + round(self.wall * 1000), lambda: self.monotonic)

    def run(self, seconds):
        self.wall += seconds
        self.monotonic += seconds

    def restart(self, off_seconds=0.0):
        """A new process, whose monotonic clock says nothing about the old one's."""
        self.wall += off_seconds
        self.monotonic = 5.0


@pytest.fixture
def machine():
    return Machine()


def believed(clock, store):
    with store.writing() as connection:
        at_ms = clock.look(connection)
        clock.note(connection, store.tables)
    return at_ms is not None


def taken_up(machine, store):
    """The clock of a relay that becomes the active one now."""
    clock = machine.clock()
    with store.reading() as connection:
        clock.take_up(connection, store.tables)
    return clock


def test_a_clock_that_runs_evenly_is_believed(sqlite, machine):
    clock = taken_up(machine, sqlite)
    for seconds in (0, 10, 60, 3600, 7 * DAY):
        machine.run(seconds)
        assert believed(clock, sqlite)


@pytest.mark.parametrize("days", [8, 100])
def test_a_clock_that_is_days_ahead_for_a_minute_is_not_believed_until_it_is_right_again(sqlite, machine, days):
    clock = taken_up(machine, sqlite)
    assert believed(clock, sqlite)
    machine.wall += days * DAY
    for _ in range(6):
        machine.run(10)
        assert not believed(clock, sqlite)
    machine.wall -= days * DAY
    assert believed(clock, sqlite)


def test_a_clock_that_runs_evenly_for_an_hour_after_its_jump_is_believed(sqlite, machine):
    """The machine has slept for a week: CLOCK_MONOTONIC has not."""
    clock = taken_up(machine, sqlite)
    assert believed(clock, sqlite)
    machine.wall += 7 * DAY
    assert not believed(clock, sqlite)
    machine.run(STEADY_SECONDS - 1)
    assert not believed(clock, sqlite)
    machine.run(1)
    assert believed(clock, sqlite)


def test_each_further_jump_begins_the_hour_again(sqlite, machine):
    clock = taken_up(machine, sqlite)
    assert believed(clock, sqlite)
    machine.wall += DAY
    assert not believed(clock, sqlite)
    machine.run(STEADY_SECONDS / 2)
    machine.wall += DAY
    assert not believed(clock, sqlite)
    machine.run(STEADY_SECONDS - 1)
    assert not believed(clock, sqlite)
    machine.run(1)
    assert believed(clock, sqlite)


def test_a_relay_restarted_while_the_clock_is_ahead_does_not_believe_it_either(sqlite, machine):
    assert believed(taken_up(machine, sqlite), sqlite)
    machine.restart(off_seconds=8 * DAY)
    assert not believed(taken_up(machine, sqlite), sqlite)
    machine.restart(off_seconds=1)
    again = taken_up(machine, sqlite)
    assert not believed(again, sqlite), "the sign of life of the doubted clock is no proof of it"
    machine.wall -= 8 * DAY
    assert believed(again, sqlite)


def test_the_hour_goes_on_over_a_restart(sqlite, machine):
    assert believed(taken_up(machine, sqlite), sqlite)
    machine.wall += DAY
    clock = taken_up(machine, sqlite)
    assert not believed(clock, sqlite)
    machine.run(STEADY_SECONDS - 100)
    assert not believed(clock, sqlite)
    machine.restart(off_seconds=10)
    clock = taken_up(machine, sqlite)
    assert not believed(clock, sqlite)
    machine.run(90)
    assert believed(clock, sqlite)


def test_a_short_restart_and_a_clock_set_back_are_no_jump_ahead(sqlite, machine):
    assert believed(taken_up(machine, sqlite), sqlite)
    machine.restart(off_seconds=AHEAD_SECONDS - 1)
    clock = taken_up(machine, sqlite)
    assert believed(clock, sqlite)
    machine.wall -= DAY
    assert believed(clock, sqlite)


def test_another_relay_takes_up_what_the_active_one_has_noted(sqlite, machine):
    """Not its own old look: it stood by meanwhile, and the clock jumped before it became active."""
    standby = machine.clock()
    assert believed(taken_up(machine, sqlite), sqlite)
    machine.run(60)
    machine.wall += 8 * DAY
    with sqlite.reading() as connection:
        standby.take_up(connection, sqlite.tables)
    assert not believed(standby, sqlite)


def test_the_sign_of_life_of_an_earlier_version_is_enough(sqlite, machine):
    with sqlite.writing() as connection:
        sign_of_life(connection, sqlite.tables, machine.began_ms, None)
    machine.wall += 8 * DAY
    assert not believed(taken_up(machine, sqlite), sqlite)


def test_a_store_without_any_relay_yet_has_nothing_to_hold_the_clock_against(sqlite, machine):
    assert believed(taken_up(machine, sqlite), sqlite)


@pytest.mark.service("postgresql")
def test_a_clock_ahead_of_the_databases_is_never_believed(postgresql, machine):
    machine.wall = AHEAD_SECONDS + 60
    clock = taken_up(machine, postgresql)
    assert not believed(clock, postgresql)
    machine.run(2 * STEADY_SECONDS)
    assert not believed(clock, postgresql), "it runs evenly, but the database knows better"
    machine.wall = AHEAD_SECONDS - 60
    assert believed(machine.clock(), postgresql)


def test_since_when_it_is_doubted_can_be_asked(store, machine):
    clock = taken_up(machine, store)
    believed(clock, store)
    with store.reading() as connection:
        assert doubted_since_ms(connection, store.tables) is None
    machine.wall += 8 * DAY
    believed(clock, store)
    with store.reading() as connection:
        assert doubted_since_ms(connection, store.tables) == machine.began_ms + 8 * DAY * 1000


def test_jumps_are_logged_once_and_so_is_the_end(sqlite, machine, capsys):
    clock = taken_up(machine, sqlite)
    believed(clock, sqlite)
    machine.wall += 8 * DAY
    for _ in range(3):
        believed(clock, sqlite)
    machine.wall -= 8 * DAY
    believed(clock, sqlite)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line.get("ahead_seconds")) for line in lines] == [
        ("clock_jumped_ahead", 8 * DAY),
        ("clock_believed", None),
    ]


def test_the_note_is_one_row(sqlite, machine):
    clock = taken_up(machine, sqlite)
    for _ in range(3):
        believed(clock, sqlite)
    meta = sqlite.tables.meta
    with sqlite.reading() as connection:
        rows = connection.scalar(sa.select(sa.func.count()).select_from(meta).where(meta.c.name == "clock"))
    assert rows == 1
