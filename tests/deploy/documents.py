"""What deploy/README.md says: the commands below a heading."""

import re

from machine import ROOT

DEPLOY_README = (ROOT / "deploy" / "README.md").read_text()


def below(heading: str, text: str = DEPLOY_README) -> str:
    """The section of a heading."""
    level = heading.split()[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def blocks(heading: str, language: str = "sh") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", below(heading), re.MULTILINE | re.DOTALL)
