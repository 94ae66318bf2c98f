"""Pictures and bars in a terminal, decoded from its control sequences."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.cli import terminal
from tests.support.command import Run, refused, stderr
from tests.support.files import SAMPLES, make_photo


@pytest.fixture
def pixels(photo: Path) -> np.ndarray:
    with Image.open(photo) as image:
        return np.asarray(image)


class Stream(io.StringIO):
    """A stream that may claim to be a terminal, with any encoding."""

    def __init__(self, tty: bool = True, encoding: str = "utf-8") -> None:
        super().__init__()
        self.tty, self.named = tty, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.named

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize(
    ("stream", "environ", "reason"),
    [
        (Stream(), {"TERM": "xterm"}, ""),
        (Stream(), {"TERM": "xterm", "NO_COLOR": ""}, ""),
        (Stream(tty=False), {"TERM": "xterm"}, "standard error is no terminal"),
        (Stream(), {"TERM": "xterm", "NO_COLOR": "1"}, "NO_COLOR is set"),
        (Stream(), {"TERM": "dumb"}, "the terminal is dumb (TERM)"),
        (Stream(), {}, "the terminal is dumb (TERM)"),
        (
            Stream(encoding="latin-1"),
            {"TERM": "xterm"},
            r"the terminal's encoding, latin-1, has no '\u2580'",
        ),
    ],
)
def test_streams_without_pictures(stream: Stream, environ: dict[str, str], reason: str) -> None:
    assert terminal.refusal(stream, environ) == reason


@pytest.mark.parametrize(
    ("environ", "how"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, "blocks"),  # noqa: S108 - a socket's name
        ({"TERM": "screen", "TERM_PROGRAM": "WezTerm"}, "blocks"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
        ({}, "blocks"),
    ],
)
def test_the_graphics_protocol_follows_the_environment(environ: dict[str, str], how: str) -> None:
    assert terminal.protocol(environ) == how


def blocks_of(text: str) -> np.ndarray:
    """Decode half blocks to pixels (2 R,W,3)."""
    rows = []
    for line in text.splitlines():
        assert line.endswith("\x1b[0m"), "the colour is reset at the end of the line"
        halves: list[list[list[int]]] = []
        for code, blocks in re.findall(r"\x1b\[([\d;]+)m(▀*)", line):
            if blocks:
                numbers = [int(n) for n in code.split(";")]
                assert (numbers[:2], numbers[5:7]) == ([38, 2], [48, 2])
                halves += [[numbers[2:5], numbers[7:]]] * len(blocks)
        rows += [[half[i] for half in halves] for i in (0, 1)]
    return np.array(rows)


@pytest.mark.parametrize(
    ("size", "expected"), [((120, 50), (80, 54)), ((40, 50), (40, 26)), ((200, 20), (30, 20))]
)
def test_half_blocks(size: tuple[int, int], expected: tuple[int, int], pixels: np.ndarray) -> None:
    text = terminal.picture(pixels, "blocks", size)
    assert text.endswith("\n")
    found = blocks_of(text)
    assert found.shape == (expected[1], expected[0], 3), (
        "the aspect ratio is kept within the terminal"
    )
    image = Image.fromarray(pixels).resize(expected, Image.Resampling.LANCZOS)
    assert (found == np.asarray(image)).all()


def test_half_blocks_set_a_colour_once() -> None:
    text = terminal.picture(np.full((10, 20, 3), 7, np.uint8), "blocks", (20, 30))
    assert text == ("\x1b[38;2;7;7;7;48;2;7;7;7m" + "▀" * 20 + "\x1b[0m\n") * 5


def test_kitty_graphics(pixels: np.ndarray) -> None:
    text = terminal.picture(pixels, "kitty", (40, 50))
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{head};{part}\x1b\\" for head, part in parts) + "\n" == text
    assert [head for head, _ in parts] == [
        *("a=T,f=100,q=2,c=40,r=13,m=1", *["m=1"] * (len(parts) - 2), "m=0")
    ]
    assert {len(part) for _, part in parts[:-1]} == {4096}
    with Image.open(io.BytesIO(base64.b64decode("".join(part for _, part in parts)))) as image:
        assert image.size == (400, 260)
        small = np.asarray(image.resize((90, 60))).astype(int)
    assert np.abs(small - pixels).mean() < 4


def sixels_of(text: str) -> np.ndarray:
    """Decode a sixel image as a terminal does."""
    size, body = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+;\d+)(.*)\x1b\\\n', text).groups()  # type: ignore
    width, height = map(int, size.split(";"))
    canvas, colours = np.full((height, width, 3), -1), {}
    x = y = colour = 0
    sign = r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([$-])|([?-~])"
    assert re.sub(sign, "", body) == ""
    for found in re.finditer(sign, body):
        if found[1]:
            colours[int(found[1])] = [int(share) * 2.55 for share in found.group(2, 3, 4)]
        elif found[5]:
            colour = int(found[5])
        elif found[8]:
            x, y = 0, y + 6 * (found[8] == "-")
        else:
            count, bits = int(found[6] or 1), ord(found[7] or found[9]) - 63
            for row in (row for row in range(6) if bits >> row & 1):
                canvas[y + row, x : x + count] = colours[colour]
            x += count
    return canvas


def test_sixel_graphics(pixels: np.ndarray) -> None:
    found = sixels_of(terminal.picture(pixels, "sixel", (20, 20)))
    assert found.shape == (140, 200, 3)
    assert (found >= 0).all(), "every pixel is drawn"
    image = Image.fromarray(pixels).resize((200, 140), Image.Resampling.LANCZOS)
    assert np.abs(found - np.asarray(image)).mean() < 16, (
        "128 colours for a photo that has thousands"
    )


def test_bars_fit_the_width() -> None:
    shares = [("dog", 1.0), ("an exceedingly long name of a class", 0.5), ("cat", 0.0124)]
    assert terminal.bars(shares, 60) == [
        "  dog                   ████████████████████████████ 100.0%",
        "  an exceedingly lo...  ██████████████                50.0%",
        "  cat                   ▍                              1.2%",
    ]
    assert terminal.bars(shares[:1], 30, blocks=False) == ["  dog  " + "#" * 15 + " 100.0%"]
    for width in (1, 20, 300):
        assert all("%" in line for line in terminal.bars(shares, width))


@pytest.fixture
def at_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """Run `camcli explain` with a terminal as standard error and return what it writes there."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(terminal, "size_of", lambda _: (40, 30))

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # pytest replaces it between stages
        found = run("explain", *arguments, "--output", tmp_path / "out")
        assert found.exit_code == 0, found.stderr_bytes
        assert b"\x1b" not in found.stdout_bytes
        return re.sub(r"\r[^\n]*\r", "", stderr(found))  # without the progress bar

    return call


def test_one_image_is_summarised_at_a_terminal(
    at_terminal: Callable[..., str], tmp_path: Path
) -> None:
    photo = SAMPLES / "cat_dog.jpg"
    text = at_terminal(photo)
    assert re.match(r"  Egyptian cat +█+.? +\d\d\.\d%\n  tabby +█+.? +\d\d\.\d%\n", text)
    assert text.endswith(
        f"\n1 image -> {tmp_path / 'out'}\n  cat_dog.gradcam.png\n  cat_dog.gradcam.npy\n"
    )
    assert at_terminal(photo, "--quiet") == ""


def test_several_images_are_counted_at_a_terminal(
    at_terminal: Callable[..., str], tmp_path: Path
) -> None:
    photos = [make_photo(tmp_path / f"{name}.jpg") for name in "ab"]
    text = at_terminal(*photos)
    assert text == f"2 images -> {tmp_path / 'out'}\n"
    assert "%" not in text, "bars are for one image"


def test_previews_are_the_overlays(at_terminal: Callable[..., str], tmp_path: Path) -> None:
    photos = [make_photo(tmp_path / f"{name}.jpg", 90, 50 + ord(name) - 97) for name in "ab"]
    text = at_terminal(*photos, "--preview", "--quiet", "--json")
    expected = ""
    for name in "ab":
        with Image.open(tmp_path / "out" / f"{name}.gradcam.png") as image:
            expected += terminal.picture(np.asarray(image), "blocks", (40, 30))
    assert text == expected


def test_without_a_terminal_a_preview_is_a_note(run: Run, photo: Path, tmp_path: Path) -> None:
    given = ("explain", photo, "--json", "--preview", "--output", tmp_path / "out")
    found = run(*given)
    assert found.exit_code == 0
    assert b"Note: no preview: standard error is no terminal\n" in found.stderr_bytes
    assert b"\x1b" not in found.stderr_bytes
    assert json.loads(found.stdout_bytes)["status"] == "ok"
    assert run(*given, "--quiet").stderr_bytes == b""
    message = refused(run(*given, "--save", "map,panel"))
    assert message == "--preview draws the overlay: add overlay to --save"


def test_the_size_of_a_real_terminal() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        assert terminal.refusal(stream, {"TERM": "xterm"}) == ""
        assert terminal.size_of(stream) == (77, 33)
    os.close(ours)
    assert terminal.size_of(Stream()) == shutil.get_terminal_size(), (
        "the fallback without a terminal"
    )
