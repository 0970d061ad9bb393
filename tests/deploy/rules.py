"""deploy/alerts.yml: its alerts, and the file with shorter times."""

import re
from dataclasses import dataclass
from typing import Any

import yaml
from machine import ROOT

TEXT = (ROOT / "deploy" / "alerts.yml").read_text()
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Alert:
    name: str
    severity: str
    annotations: dict[str, str]

    def expected(self, labels: dict[str, str]) -> dict[str, Any]:
        """As promtool wants an alert that fires with these labels."""
        filled = {
            name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda label: labels.get(label[1], ""), text)
            for name, text in self.annotations.items()
        }
        return {"exp_labels": {"severity": self.severity, **labels}, "exp_annotations": filled}


def groups() -> list[dict[str, Any]]:
    return list(yaml.safe_load(TEXT)["groups"])


def alerts() -> dict[str, Alert]:
    rules = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
    return {rule["alert"]: Alert(rule["alert"], rule["labels"]["severity"], rule["annotations"]) for rule in rules}


def faster(factor: int) -> str:
    """The rules with all of their times divided; 1: as they are shipped."""

    def divided(text: str) -> str:
        milliseconds = 1000 * int(text[:-1]) * _SECONDS[text[-1]] // factor
        return f"{milliseconds}ms"

    text = re.sub(r"(?<=\[)\d+[smhdw](?=\])", lambda found: divided(found[0]), TEXT)
    text = re.sub(r"((?:for:|offset) )(\d+[smhdw])", lambda found: found[1] + divided(found[2]), text)
    return re.sub(r"> (\d+) \* 60$", lambda found: f"> {int(found[1]) * 60 / factor}", text, flags=re.MULTILINE)
