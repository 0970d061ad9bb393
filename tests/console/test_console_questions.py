"""The questions of ``questions.md``, asked of both faces and counted again."""

import json
import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from desk import Browser, console, sign_in, stocked
from house import House
from test_console_faxes import take

from receiver.cli import main

TABLE = (Path(__file__).parent / "questions.md").read_text()
QUESTIONS = re.findall(r"^\| (.+\?) \| `(.+)` \| `(/console/.+)` \| (.+) \|$", TABLE, re.MULTILINE)
MOST_CLICKS = 3
MANY = 10_000 if os.environ.get("FAXHOOK_LONG_TESTS") else 2_000


def fill(at: House, count: int, chance: random.Random) -> list[dict[str, str]]:
    """Random faxes, some of them said twice, some refused; those that are known, as they ended."""
    faxes = []
    for number in range(count):
        status = chance.choice(["success", "success", "failure"])
        fax = {
            "reference": f"order-{number // 2}",
            "job": str(100000 + number),
            "outcome": status,
            "provider": "faxage",
        }
        fax["number"] = f"+1208555{chance.randrange(20):04d}"
        for _ in range(chance.choice([1, 1, 1, 2])):
            given = {"jobid": fax["job"], "destnum": fax["number"][2:], "shortstatus": status}
            take(at, reference=fax["reference"], **given)
        faxes.append(fax)
        if number % 10 == 0:
            take(at, jobid=f"x{number}", shortstatus="frob")
    stocked(at).project()
    return faxes


def asked(at: House, browser: Browser, question: int, **about: str) -> Any:
    """The answer, once the command and the page have given the same."""
    _, command, page, clicks = QUESTIONS[question]
    words = [word.format(**about) for word in command.split()]
    made = CliRunner().invoke(main, [*words, "--json", "--config", str(at.config)])
    answer = browser.json(page.format(**{name: quote(value) for name, value in about.items()}))
    assert len(clicks.split(", ")) <= MOST_CLICKS
    told = json.loads(made.stdout)
    if isinstance(told, list) and len(told) > len(answer) == 50:
        told = told[:50]  # the page goes on
    assert answer == told, command
    return told


@pytest.mark.parametrize("count", [80, pytest.param(MANY, marks=pytest.mark.campaign)])
def test_every_question_has_its_right_answer(tmp_path: Path, store_url: str, count: int) -> None:
    assert len(QUESTIONS) == 10
    chance = random.Random(11)
    with console(tmp_path, store_url) as at:
        faxes = fill(at, count, chance)
        browser = sign_in(at, "vera")
        ended = {"success": "delivered", "failure": "failed"}
        for fax in chance.sample(faxes, 5):
            rows = asked(at, browser, 0, reference=fax["reference"])
            same = [one for one in faxes if one["reference"] == fax["reference"]]
            assert sorted(row["outcome"] for row in rows) == sorted(ended[one["outcome"]] for one in same)
            one = asked(at, browser, 1, job=fax["job"])
            assert one["outcome"] == ended[fax["outcome"]]
            assert (one["advice"] is None) == (one["outcome"] == "delivered"), "what now"
            rows = asked(at, browser, 2, number=fax["number"])
            wanted = [one for one in faxes if one["number"] == fax["number"]]
            found = [rows] if isinstance(rows, dict) else rows
            assert len(found) == min(len(wanted), 50)
        asked(at, browser, 3)
        outcomes = Counter(ended[fax["outcome"]] for fax in faxes)
        made = CliRunner().invoke(main, ["stats", "--since", "3000d", "--json", "--config", str(at.config)])
        (row,) = json.loads(made.stdout)
        assert {name: row[name] for name in outcomes} == outcomes
        assert browser.json("/console/reports?since=3000d") == [row]
        for question in range(4, 10):
            asked(at, browser, question)
        refused = asked(at, browser, 7)
        assert len(refused) == min(count // 10, 50)
        assert {row["reason"] for row in refused} == {"unprocessable"}
