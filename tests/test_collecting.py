"""The garbage collector while modules are imported or a large push is worked on: it rests, and is as it was after."""

import gc
from types import SimpleNamespace

import pytest

from receiver import intake
from receiver.providers import RawCallback
from receiver.system.collecting import importing, paused


@pytest.fixture(autouse=True)
def _as_before():
    yield
    gc.enable()
    gc.unfreeze()


def test_it_rests_meanwhile_and_leaves_alone_what_was_made():
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_it_is_back_where_an_import_fails():
    with pytest.raises(ModuleNotFoundError), importing():
        import receiver.absent  # noqa: F401
    assert gc.isenabled()


def test_who_has_turned_it_off_finds_it_off():
    gc.disable()
    with importing():
        pass
    assert not gc.isenabled()


def test_a_pause_ends_with_its_work():
    with paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_pause_ends_where_its_work_fails():
    with pytest.raises(ZeroDivisionError), paused():
        _ = 1 / 0
    assert gc.isenabled()


def test_pauses_that_overlap_do_not_prolong_each_other():
    first, second, third = paused(), paused(), paused()
    with first:
        second.__enter__()
    assert gc.isenabled()  # although the second goes on
    with third:
        second.__exit__(None, None, None)
        assert not gc.isenabled()
    assert gc.isenabled()


def test_who_has_turned_it_off_finds_it_off_after_a_pause():
    gc.disable()
    with paused():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize(("size", "rests"), [(1000, False), (50_000, True)])
def test_it_rests_while_a_large_push_is_worked_on(monkeypatch, size, rests):
    found = []

    def failing(*_):
        found.append(not gc.isenabled())
        raise ZeroDivisionError

    monkeypatch.setattr(intake, "_take", failing)
    with pytest.raises(ZeroDivisionError):
        intake.process(SimpleNamespace(raw=RawCallback(b"x" * size)), None)
    assert found == [rests]
    assert gc.isenabled()
