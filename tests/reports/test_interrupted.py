"""The real ``faxhook reconcile``: killed again and again, asked to end, and as a person calls it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from pulled import PROVIDERS, faxes_of, pulled
from stock import FAXHOOK, environment
from waiting import until

from receiver.cli import main

COMPLETED = "fax.completed.v1"


def start(made, *arguments, **options):
    command = [*FAXHOOK, "reconcile", *arguments, "--config", str(made.house.config)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(), **(piped | options))


def run(made, *arguments):
    with start(made, *arguments) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def told(made):
    store = made.house.runtime.store
    events = store.tables.events
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(events)).scalar_one())


@pytest.mark.campaign
@pytest.mark.parametrize("provider", ["openfax", "faxage", "retarus"])
def test_killed_at_any_point_and_run_again_nothing_is_lost_or_doubled(tmp_path, sqlite_url, provider):
    count = 900 if provider == "retarus" else 2400  # its list ends at 1000
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, count)) as it:
        kills = 0
        for share in (0.1, 0.4, 0.8):
            with start(it, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                deadline = time.monotonic() + 60
                while told(it) < share * count and process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.002)
                kills += process.poll() is None
                process.kill()
        assert kills
        code, out, err = run(it, "--json")
        assert (code, err.count("Traceback")) == (0, 0), err
        types = it.types()
        assert len(types) == count
        assert all(one == [COMPLETED] for one in types.values())
        code, out, _ = run(it, "--json")
        assert (code, json.loads(out)[0]["filled"]) == (0, 0)


@pytest.mark.campaign
def test_several_at_once_beside_callbacks_tell_each_fax_once(tmp_path, store_url):
    with pulled(tmp_path, store_url, "openfax", *faxes_of("openfax", 900)) as it:
        processes = [start(it) for _ in range(3)]
        it.world.announce(it.url)
        for process in processes:
            with process:
                _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
        assert len(it.types()) == 900
        assert all(types.count(COMPLETED) == 1 for types in it.types().values())


def test_a_loop_that_a_provider_holds_up_ends_well_when_it_is_asked_to(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "faxage", *faxes_of("faxage", 3)) as it:
        it.world.hang(600)
        with start(it, "--loop") as process:
            until(lambda: it.world.asked)
            process.terminate()
            began = time.monotonic()
            _, err = process.communicate(timeout=120)
            assert time.monotonic() - began < 60
        assert (process.returncode, err.count("Traceback")) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_though_the_provider_does_not_answer(tmp_path, sqlite_url, number):
    with pulled(tmp_path, sqlite_url, "faxage", *faxes_of("faxage", 3)) as it:
        it.world.hang(600)
        listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        with start(it, **listening) as process:
            until(lambda: it.world.asked)
            process.send_signal(number)
            began = time.monotonic()
            _, err = process.communicate(timeout=120)
            assert time.monotonic() - began < 60
        assert process.returncode == 1
        assert "the next run goes on" in err
        assert "Traceback" not in err
        assert run(it)[0] == 0
        assert len(it.types()) == 3


def test_in_a_loop_it_asks_again_until_it_is_asked_to_end(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "faxage", *faxes_of("faxage", 3)) as it:
        text = it.house.config.read_text()
        it.house.config.write_text(
            text.replace("[endpoints.faxage.reports]\n", '[endpoints.faxage.reports]\nevery = "1s"\n')
        )
        with start(it, "--loop") as process:
            until(lambda: told(it) == 3)
            (late,) = faxes_of("faxage", 4)[3:]
            it.world.add(late)
            until(lambda: told(it) == 4)
            process.terminate()
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "faxage: faxes 3, filled 3" in out
        assert not re.search(r"example-password|exampleuser", out + err)


@pytest.mark.parametrize("output", [">/dev/full 2>/dev/full", "2>&1 | true", "<&- >&- 2>&-"])
def test_a_loop_goes_on_where_nobody_reads_what_it_says(tmp_path, sqlite_url, output):
    with pulled(tmp_path, sqlite_url, "faxage", *faxes_of("faxage", 2)) as it:
        text = it.house.config.read_text()
        every = '[endpoints.faxage.reports]\nevery = "1s"\n'
        it.house.config.write_text(text.replace("[endpoints.faxage.reports]\n", every))
        number = tmp_path / "pid"
        shell = f'{{ echo $$ > {number}; exec "$@"; }} {output}'.replace("$$", "$(exec sh -c 'echo $PPID')")
        command = [*FAXHOOK, "reconcile", "--loop", "--config", str(it.house.config)]
        with subprocess.Popen(["sh", "-c", shell, "sh", *command], env=environment()) as process:
            until(lambda: told(it) == 2)
            asked = it.world.asked.total()
            until(lambda: it.world.asked.total() > asked + 1)  # it has told of a run, and begun another
            it.world.add(faxes_of("faxage", 3)[2])
            until(lambda: told(it) == 3)
            os.kill(int(number.read_text()), signal.SIGTERM)
            process.wait(60)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_command_of_the_readme_fetches_what_was_missed(tmp_path, sqlite_url, provider):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (arguments,) = re.findall(rf"^\|.*`faxhook reconcile (--endpoint {provider})` \|$", readme, re.MULTILINE)
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 5)) as it:
        if it.at.calls:
            lost = it.world.announce(it.url, lose={fax.job_id for fax in it.world.faxes()[:2]})
            it.expect([fax for one in lost for fax in one.faxes])
        code, out, err = run(it, *arguments.split())
        assert code == 0, err
        head, *rows = (line.split("\t") for line in out.splitlines())
        (row,) = (dict(zip(head, cells, strict=True)) for cells in rows)
        assert (row["endpoint"], row["filled"]) == (provider, "2" if it.at.calls else "5")
        assert len(it.types()) == 5


def test_bad_usage_says_what_is_expected(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "faxage") as it:
        for arguments, expected in (
            (["--endpoint", "nobody"], "nobody is not configured"),
            (["--since", "1h", "--until", "2h"], "--since must be before --until"),
            (["--loop", "--dry-run"], "--loop goes on"),
            (["--since", "yesterday"], "expected a time"),
        ):
            command = ["reconcile", *arguments, "--config", str(it.house.config)]
            result = CliRunner().invoke(main, command)
            assert (result.exit_code, expected in result.stderr) == (2, True), result.stderr


def test_without_reports_there_is_nothing_to_reconcile(filled):
    command = [sys.executable, "-m", "receiver", "reconcile", "--config", str(filled.config)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, "[endpoints.<name>.reports]" in done.stderr) == (2, True)
