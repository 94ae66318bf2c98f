"""Types of option values."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from camcli.cli.complete import listed
from camcli.errors import spelled, unknown
from camcli.images.store import RemotePath, is_remote, parse_path

LONGEST = 24
"""The largest length of choices that are shown as [a|b|c]."""
POSITIVE = click.IntRange(1)


class LocalPath(click.Path):
    """A path on this machine. A URL would become the name of a local folder `s3:`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_remote(value):
            given = parse_path(value)
            self.fail(f"'{given}' is on a store: expected a path on this machine", param, ctx)
        return super().convert(value, param, ctx)


class Location(click.Path):
    """A path on this machine, or the URL of a store.

    With `exists`, a folder on a store has to exist, too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_remote(value):
            value = parse_path(value)
        if not isinstance(value, RemotePath):
            return super().convert(value, param, ctx)
        if self.exists and (problem := _lack(value)):
            self.fail(f"Directory '{value}' {problem}", param, ctx)
        return value


def _lack(folder: RemotePath) -> str | None:
    """Return what is wrong with a folder on a store, None if it exists."""
    try:
        return None if folder.is_dir() else "does not exist."
    except OSError as error:
        return f"cannot be read: {error.strerror}"


ANY_PATH = LocalPath()
FILE_PATH = LocalPath(dir_okay=False)
FOLDER_PATH = LocalPath(file_okay=False)


class Name(click.Choice[str]):
    """A name in a registry, which is read when the option is used.

    Other spellings of a name stand for it. The error for another name suggests the nearest ones.
    """

    envvar_list_splitter = ","

    def __init__(self, what: str, choices: Iterable[str], *more: str) -> None:
        self.what = what
        self.registry = choices
        self.more = more
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override] # click stores a copy
        """The names that the registry has now, and the additional ones."""
        return (*self.registry, *self.more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = spelled(value, self.choices)
        if found not in self.choices:
            self.fail(unknown(self.what, value, self.choices), param, ctx)
        return found

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return the choices, or NAME if they are too long to stand beside their option."""
        names = super().get_metavar(param, ctx) or ""
        return names if len(names) <= LONGEST else "NAME"


class Texts(click.types.StringParamType):
    """Any text. In an environment variable, commas separate several texts."""

    envvar_list_splitter = ","


class WholeTexts(Texts):
    """Any text, whose commas are read later, where it is known which of them separate texts."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [rv]


class Listed(WholeTexts):
    """A tuple of texts, from one value in which commas separate them. A path may have commas."""

    name = "texts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        whole = os.path.exists(value)
        return (value,) if whole else tuple(part.strip() for part in value.split(","))


class Names(Name):
    """A tuple of names, from one value in which commas separate them."""

    name = "names"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(
            dict.fromkeys(super(Names, self).convert(p.strip(), param, ctx) for p in parts)
        )

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Complete the name after the last comma."""
        return listed(self.choices, incomplete)


def each(
    ctx: click.Context, option: click.Parameter, given: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the texts of a repeated option of Listed."""
    return tuple(itertools.chain.from_iterable(given))


def distinct_names(
    ctx: click.Context, option: click.Parameter, given: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the names of a repeated option of Names, each once."""
    return tuple(dict.fromkeys(each(ctx, option, given)))


class Corners(click.types.StringParamType):
    """A rectangle x0,y0,x1,y1 with a positive area."""

    name = "corners"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            x0, y0, x1, y1 = map(float, value.split(","))
        except ValueError:
            x0, y0, x1, y1 = 0.0, 0.0, 0.0, 0.0
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            self.fail(f"'{value}': expected x0,y0,x1,y1 with x0 < x1 and y0 < y1", param, ctx)
        return x0, y0, x1, y1


class Count(click.types.StringParamType):
    """A number from 1, or `all`."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not re.fullmatch(r"[1-9]\d{0,8}|all", value):
            self.fail(f"'{value}': expected a number from 1, or all", param, ctx)
        return value


class SidesType(click.types.StringParamType):
    """A side in pixels, height and width as HxW, or `none`."""

    name = "sides"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or value == "none":
            return value
        found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", value.strip())
        if not found:
            self.fail(f"'{value}': expected pixels, HxW or none", param, ctx)
        return (int(found[1]), int(found[2])) if found[2] else int(found[1])


class Reals(click.types.StringParamType):
    """Finite numbers, separated by commas."""

    name = "reals"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = tuple(map(float, value.split(",")))
        except ValueError:
            found = (math.nan,)
        if not all(map(math.isfinite, found)):
            self.fail(f"'{value}': expected numbers separated by commas", param, ctx)
        return found


class WindowLevel(Reals):
    """The centre and the width of a range of values, as `C,W`."""

    name = "window level"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if len(found) != 2 or found[1] <= 0:
            self.fail(f"'{value}': expected a centre and a width above 0, as 40,400", param, ctx)
        return found


class Bytes(click.types.StringParamType):
    """An amount of memory in bytes, as `500MB` or `2GB`."""

    name = "bytes"
    units = "KMGT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT])(i?)B", value.strip(), re.IGNORECASE)
        if not found or not float(found[1]):
            self.fail(f"'{value}': expected an amount of memory, as 500MB or 2GB", param, ctx)
        base = 1024 if found[3] else 1000
        return int(float(found[1]) * base ** (self.units.index(found[2].upper()) + 1))


class Real(click.FloatRange):
    """A finite number in a range. FloatRange alone accepts `nan`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found
