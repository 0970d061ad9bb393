"""``faxhook stats`` on the command line: a table, CSV and JSON of the same figures, and what is no question."""

import csv
import json

from click.testing import CliRunner

from receiver.cli import main
from receiver.store import stats

HOUR = 3600_000


def faxhook(stock, *arguments):
    return CliRunner().invoke(main, ["stats", *arguments, "--config", str(stock.config)])


def took(stock):
    """Two delivered faxes and one that was not, of one and a half hours ago and now; one of the two cost something."""
    stock.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0&PagesSent=3&RealCost=0.0294", age_ms=HOUR * 3 // 2)
    stock.take("openfax", b"OutTransID=2&AccountID=1&LastStatus=0", age_ms=HOUR * 3 // 2)
    stock.take("openfax", b"OutTransID=3&AccountID=1&LastStatus=9999")


def test_the_same_figures_as_json_as_csv_and_as_lines(filled):
    took(filled)
    behind = faxhook(filled)
    assert "the newest 3 events do not count yet" in behind.stderr
    filled.project()
    done = faxhook(filled, "--json", "--by", "provider,reason")
    assert done.stderr == ""
    delivered, failed = json.loads(done.stdout)
    assert tuple(delivered) == ("provider", "reason", *stats.COLUMNS)
    assert (delivered["faxes"], delivered["reason"], delivered["delivered_share"]) == (2, None, 1.0)
    assert delivered["cost"] == [{"amount": "0.0294", "currency": None}]
    assert (failed["reason"], failed["failed"], failed["unknown_codes"]) == ("unknown", 1, 1)
    lines = list(csv.DictReader(faxhook(filled, "--csv", "--by", "provider,reason").stdout.splitlines()))
    assert [(line["reason"], line["faxes"], line["cost"]) for line in lines] == [
        ("", "2", "0.0294"),
        ("unknown", "1", ""),
    ]
    assert faxhook(filled, "--by", "endpoint").stdout.splitlines()[1].startswith("openfax\t3\t2\t1\t0\t0\t0.6667\t")


def test_a_window(filled):
    took(filled)
    filled.project()
    for window, faxes in ((("--since", "1h"), 1), (("--until", "1h"), 2), (("--since", "2h"), 3)):
        (row,) = json.loads(faxhook(filled, "--json", *window).stdout)
        assert row["faxes"] == faxes
    assert json.loads(faxhook(filled, "--json", "--until", "3h").stdout) == []


def test_what_is_no_question_is_refused_with_what_was_expected(filled):
    for arguments, said in (
        (
            ("--by", "provider,colour"),
            'expected some of provider, reason, endpoint, hour, country, with commas, not "colour"',
        ),
        (("--by", ""), "expected some of provider"),
        (("--csv", "--json"), "expected --csv or --json, not both"),
        (("--since", "1h", "--until", "2h"), "--since must be before --until"),
    ):
        done = faxhook(filled, *arguments)
        assert done.exit_code == 2
        assert said in done.stderr
