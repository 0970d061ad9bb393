"""The findings as a page: everything is escaped, and there is no script in it."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from receiver import __version__
from receiver.verifying import Finding


def page(findings: Sequence[Finding], place: str, at: str) -> str:
    """place: where the consumer is. at: when it was verified."""
    templates = Environment(loader=PackageLoader("receiver.verifying"), autoescape=True)
    return templates.get_template("report.html").render(findings=findings, place=place, at=at, version=__version__)
