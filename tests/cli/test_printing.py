"""Names and messages on a terminal and in a pipe."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from camcli.cli import printing
from camcli.errors import printable
from tests.support.command import TINY
from tests.support.files import SAMPLES, make_photo, manifest

HOSTILE = (
    *(b"\x1b]0;pwned\x07.png", b"a\nb.png", b"a\xffb.png", b"=1+1.png", b"it's.png"),
    *(b"\xc2\x9b31m.png", b"\xe2\x80\xae.png", b"a\rb.png"),
)
"""Names with escape sequences, line breaks, a byte that is no text, a formula, and a quote."""


def ls(folder: Path) -> list[str]:
    """Return the names in a folder as GNU ls quotes them. Skip where there is another ls."""
    command = ["ls", "--quoting-style=shell-escape", "-UA1", str(folder)]
    found = subprocess.run(command, capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    if found.returncode:
        pytest.skip("this ls is not the one of GNU")
    return found.stdout.decode().splitlines()


def test_names_are_quoted_as_gnu_ls_does(tmp_path: Path) -> None:
    chance = random.Random(0)
    characters = [chr(c) for c in range(1, 127) if chr(c) not in "/."] + ["é", "日", "\udcff", "."]
    names = {*characters, *map("".join, itertools.permutations("a'\n{#", 3))} - {"."}
    names |= {"".join(chance.choices(characters, k=chance.randint(2, 6))) for _ in range(400)}
    names -= {".."}
    for each in names:
        if each.isprintable() or "'" not in each:  # of both, version 9.1 makes wrong quotes
            (tmp_path / each).touch()
    assert sorted(map(printing.shell_quoted, os.listdir(tmp_path))) == sorted(ls(tmp_path))
    if bash := shutil.which("bash"):
        words = " ".join(map(printing.shell_quoted, names))
        found = subprocess.run([bash, "-c", rf"printf '%s\0' {words}"], stdout=subprocess.PIPE)
        assert found.stdout.split(b"\0")[:-1] == [*map(os.fsencode, names)]


@pytest.mark.parametrize("given", [*map(os.fsdecode, HOSTILE), "", "\ud800", "\U000e0001"])
def test_a_terminal_gets_printable_characters(given: str) -> None:
    assert printing.shell_quoted(given).isprintable()
    assert printable(given).isprintable()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with hostile names, one of which is no image."""
    found = tmp_path_factory.mktemp("hostile")
    picture = make_photo(found / "in" / "plain.png").read_bytes()
    for each in HOSTILE:
        (found / "in" / os.fsdecode(each)).write_bytes(picture)
    (found / "in" / "no\nimage\x1b[2J.png").write_text("no image")
    return found


COMMANDS = {
    "explain": ("explain", "in", *TINY, "--output", "out", "--overwrite"),
    "explain --json": ("explain", "in", *TINY, "--output", "out", "--overwrite", "--json"),
    "explain --dry-run": ("explain", "in", "--output", "out", "--dry-run"),
    "explain one": ("explain", "in/a\nb.png", *TINY, "--output", "one", "--overwrite"),
    "explain none": ("explain", "in/no\nimage\x1b[2J.png", "--output", "none"),
    "explain unknown": ("explain", "in", "--model", "\x1b[2J\n"),
    "check": ("check", "out", "changed"),
    "check --json": ("check", "out", "changed", "--json"),
    "compare": ("compare", "out", "changed", "--output", "a\x1b[2J\nb"),
    "compare --json": ("compare", "out", "changed", "--json"),
    "report": ("report", "out", "--output", "a\x1b[2J\nb.html"),
    "explain with labels": (
        *("explain", "in/plain.png", *TINY, "--labels", "names.txt", "--output", "named"),
        "--overwrite",
    ),
    "evaluate": (
        *("evaluate", "in", *TINY, "--method", "gradcam", "--metric", "average-drop"),
        *("--output", "scores"),
    ),
    "figure": ("figure", "in/a\nb.png", *TINY, "--method", "gradcam", "--output", "\x1b\n.png"),
}


@pytest.fixture(scope="module")
def outputs(folder: Path) -> Path:
    """The folder, with the outputs of a run and a copy in which all maps differ."""
    piped(folder, *COMMANDS["explain"])
    labels = "".join(f"\x1b]0;{i}\x07\x9b\u202e\n" for i in range(1000))
    (folder / "names.txt").write_text(labels)
    changed = shutil.copytree(folder / "out", folder / "changed")
    rows = (changed / "manifest.jsonl").read_text().splitlines()
    for file in {json.loads(row).get("map") for row in rows} - {None}:
        (changed / file).write_bytes((SAMPLES / "chelsea.jpg").read_bytes())
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "camcli", *arguments]


def piped(folder: Path, *arguments: str) -> tuple[bytes, bytes]:
    found = subprocess.run(command(*arguments), cwd=folder, capture_output=True)
    return found.stdout, found.stderr


def on_terminal(folder: Path, *arguments: str) -> bytes:
    """Return the bytes that a command writes to a terminal."""
    pty = pytest.importorskip("pty", reason="this system has no terminals of this kind")
    ours, its = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        command(*arguments), cwd=folder, stdout=its, stderr=its, stdin=its, env=environment
    )
    os.close(its)
    found = b""
    while part := _read(ours):
        found += part
    process.wait()
    os.close(ours)
    return found


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # the end of a terminal, on Linux
        return b""


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_name_reaches_a_terminal_raw(words: tuple[str, ...], outputs: Path) -> None:
    found = on_terminal(outputs, *words)
    bars = b"\r", b"\x1b[A", b"\n", b"\x1b[K"  # of tqdm
    for each in bars:
        found = found.replace(each, b"")
    assert found.decode().isprintable()


def test_pipes_get_exact_names(folder: Path) -> None:
    out, err = piped(folder, *COMMANDS["explain"])
    for each in HOSTILE:
        assert each + b"  gradcam" in out
    problems = [line for line in err.splitlines() if line.startswith(b"Error: ")]
    assert len(problems) == 1
    assert b"no\\nimage\x1b[2J.png" in problems[0]
    names, _ = piped(folder, *COMMANDS["explain --dry-run"])
    assert all(b"in/" + each + b" -> out/" in names for each in HOSTILE)


def test_json_has_names_that_a_reader_can_restore(outputs: Path) -> None:
    found = {os.fsencode(row["image"]) for row in manifest(outputs / "out")}
    assert found >= set(HOSTILE)


def test_no_cell_of_scores_is_a_formula(tmp_path: Path) -> None:
    import csv

    from camcli.evaluation.cells import guarded, unguarded

    texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "'=1", "'", "plain", "", "a=1"]
    for text in texts:
        assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert unguarded(guarded(text)) == text
    assert guarded("plain") == "plain"
    for name in ("=1+1.png", "-x.png", "'q.png"):
        make_photo(tmp_path / "in" / name)
    piped(tmp_path, *COMMANDS["evaluate"])
    with (tmp_path / "scores" / "scores.csv").open(newline="") as stream:
        rows = [*csv.DictReader(stream)]
    assert {row["image"] for row in rows} == {"'=1+1.png", "'-x.png", "''q.png"}
    assert {unguarded(row["image"]) for row in rows} == {"=1+1.png", "-x.png", "'q.png"}
