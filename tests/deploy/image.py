"""deploy/Dockerfile without an engine: its instructions, its context, and its build stage run in a machine."""

import fnmatch
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from machine import ENVIRONMENT, ROOT, machine

DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True)
class Stage:
    """The instructions of one stage, in their order: (name, argument)."""

    instructions: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [argument for one, argument in self.instructions if one == name]

    def last(self, name: str) -> str:
        return self.all(name)[-1]

    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for argument in self.all("ENV") for pair in argument.split())

    def command(self) -> list[str]:
        return [str(word) for word in json.loads(self.last("CMD"))]

    def health_check(self) -> list[str]:
        return [str(word) for word in json.loads(self.last("HEALTHCHECK").partition(" CMD ")[2])]


def stages() -> list[Stage]:
    """The build stage and the final one."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text())
    lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line.strip()]
    found: list[Stage] = []
    for line in lines:
        name, _, argument = line.partition(" ")
        if name == "FROM":
            found.append(Stage([]))
        found[-1].instructions.append((name, re.sub(" +", " ", argument)))
    return found


def copy_context(folder: Path) -> None:
    """What `docker build` would send: all but what the ignore file leaves out."""
    rules = [
        line for line in DOCKERFILE.with_suffix(".dockerignore").read_text().splitlines() if line and line[0] != "#"
    ]
    for parent, folders, files in os.walk(ROOT):
        here = Path(parent).relative_to(ROOT)
        folders[:] = [name for name in folders if _is_entered(str(here / name), rules)]
        for name in (here / name for name in files if _is_sent(str(here / name), rules)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def _is_entered(folder: str, rules: list[str]) -> bool:
    return _is_sent(folder, rules) or any(rule.startswith(f"!{folder}/") for rule in rules)


def _is_sent(name: str, rules: list[str]) -> bool:
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!")
        parts = [name, *(str(parent) for parent in Path(name).parents)]
        if any(fnmatch.fnmatchcase(part, pattern.replace("**/", "*")) for part in parts):
            sent = rule.startswith("!")
    return sent


def build(folder: Path) -> Path:
    """The image's /opt/faxhook, made by its own instructions with this system's Python."""
    context, installed = folder / "context", folder / "faxhook"
    context.mkdir(parents=True)
    copy_context(context)
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    with machine(folder, context, installed, network="host") as made:
        for command in stages()[0].all("RUN"):
            made.sh(command, env=ENVIRONMENT | pip, seconds=600)
    return installed
