"""The console blocks of a page: commands after `$ `, and what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?```console\n(?P<text>.*?)```", re.S)
_HEREDOC = re.compile(r"<< *(\w+)")
_FILE = re.compile(r"\.(?:png|npy|html|jsonl?|csv|md|jpg|pdf|svg|xml)$")


@dataclass
class Command:
    """A command with all its lines, and the lines that the page shows below it."""

    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def may_differ(self) -> bool:
        """Whether exit code 3, a check that fails, is a result as well."""
        return bool(re.search(r"camcli check|--fail-if", self.text))

    @property
    def on_samples(self) -> bool:
        """Whether its results are those that the page shows: of the sample photos, by mini."""
        return "sample_images" in self.text

    def files(self) -> list[str]:
        """Return the files that the shown lines name, with their folders."""
        columns = [one for line in self.shown for one in re.split(r"\s{2,}| -> ", line)]
        return [one for one in columns if "/" in one and _FILE.search(one)]


@dataclass(frozen=True)
class Block:
    """A console block of a page; `reason` says why it is not run, if it is not."""

    line: int
    commands: list[Command]
    reason: str | None


def blocks(page: Path) -> list[Block]:
    """Return the console blocks of a page."""
    text = page.read_text()
    return [
        Block(
            text.count("\n", 0, found.start("text")),
            _commands(found["text"]),
            found["reason"],
        )
        for found in _BLOCK.finditer(text)
    ]


def _commands(text: str) -> list[Command]:
    """Split a block. Lines after a backslash, and those of a heredoc, belong to their command."""
    found: list[Command] = []
    until = None
    for line in text.splitlines():
        if line.startswith("$ ") and not until:
            found.append(Command(line[2:]))
        elif found and (until or found[-1].text.endswith("\\")):
            found[-1].text += f"\n{line}"
            until = None if line == until else until
        elif found:
            found[-1].shown.append(line)
        if line.startswith("$ ") and (begins := _HEREDOC.search(line)):
            until = begins[1]
    return found


def without_numbers(line: str) -> str:
    """Return a line as it is compared: numbers and the widths of columns depend on the machine."""
    return re.sub(r"-?[\d.]+[!~]?", "0", re.sub(r"\s+", " ", re.sub(r"\][!~]", "]", line))).strip()
