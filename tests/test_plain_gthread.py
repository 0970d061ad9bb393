"""Everything that a callback meets on gunicorn's own threads as well, without our worker and its loop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BEHAVIOUR = (
    *("auth", "test_advice.py", "test_callbacks.py", "test_field.py", "test_imaginary_provider.py", "test_jobs.py"),
    *("test_properties.py", "test_ready.py", "test_refusals.py", "test_repairs.py", "test_simulator.py"),
)
# There the answer says keep-alive before the connection is closed: gunicorn looks at that mark only afterwards.
NOT_THERE = ("test_beyond_max_body_it_is_413_without_a_challenge",)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", *arguments],
        cwd=HERE,
        env=os.environ | {"GUNICORN_CMD_ARGS": "--worker-class gthread"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.campaign
@pytest.mark.parametrize("tests", BEHAVIOUR)
def test_it_behaves_the_same(tests: str) -> None:
    done = run("-k", " and ".join(f"not {name}" for name in NOT_THERE), tests)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


@pytest.mark.campaign
def test_what_is_not_there_shows_that_it_was_not_our_worker() -> None:
    assert "2 failed" in run("-k", " or ".join(NOT_THERE), "auth/test_early_refusals.py").stdout
