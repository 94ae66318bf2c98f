"""Print lines and names, whatever characters they contain.

A name may hold escape sequences that change the terminal, line breaks, and bytes that are no text.
A terminal therefore gets printable characters only. A pipe gets the exact bytes of results, and a
message is one line everywhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from itertools import groupby

import click

from camcli.errors import printable

_SPECIAL = re.compile(r"""[ !"$&()*;<=>?[\\^`|']|^[#~]|^[{}]$""")
"""The characters of printable names that GNU ls quotes."""
_IN_DOUBLE_QUOTES = re.compile(r"""[#~]?[^!"#$&()*;<=>?[\\^`|{}~]*""")
"""The names with a single quote that stand in double quotes."""
_LETTERS = dict(zip(b"\a\b\t\n\v\f\r", "abtnvfr", strict=True))
_BREAKS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def echo(line: str, *, err: bool = False) -> None:
    """Print a line: printable on a terminal, and with its exact bytes elsewhere.

    On standard error, line breaks inside are escaped everywhere.
    """
    if _is_terminal(err=err):
        click.echo(printable(line), err=err)
        return
    if err:
        line = _BREAKS.sub(lambda found: printable(found[0]), line)
    click.echo(_bytes(line) + b"\n", err=err, nl=False)


def echo_json(row: bytes) -> None:
    """Print a row of JSON: on a terminal with all unprintable characters escaped."""
    if _is_terminal():
        text = row.decode().removesuffix("\n")
        click.echo("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text))
    else:
        click.echo(row, nl=False)


def terminal_width() -> int | None:
    """Return the columns of standard output; None if it is no terminal, where lines are whole."""
    return shutil.get_terminal_size().columns if _is_terminal() else None


def show_name(file: object, *, err: bool = False) -> str:
    """Return a file's name for a line: on a terminal as GNU ls does, for a shell to read."""
    return shell_quoted(str(file)) if _is_terminal(err=err) else str(file)


def shell_quoted(name: str) -> str:
    r"""Return a name in the quoting style `shell-escape` of GNU ls.

    It is quoted if it has characters that are special in a shell. Unprintable ones stand in `$''`,
    as letters or in octal: `'a'$'\n''b.png'`.
    """
    if name and name.isprintable() and not _SPECIAL.search(name):
        return name
    if "'" in name and name.isprintable() and _IN_DOUBLE_QUOTES.fullmatch(name):
        return f'"{name}"'
    found, was_shown = "'", True
    for shown, run in groupby(name, str.isprintable):
        text = "".join(run)
        if shown:  # after an escape, quotes open again, unless a single quote follows
            text = text.replace("'", "'\\''")
            found += text if was_shown or text[0] == "'" else f"''{text}"
        else:
            found += "'$'" + "".join(map(_escape, _bytes(text)))
        was_shown = shown
    return found + "'"


def _escape(byte: int) -> str:
    return f"\\{_LETTERS.get(byte) or f'{byte:03o}'}"


def _bytes(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # half a character, as JSON may hold
        return text.encode(errors="backslashreplace")


def _is_terminal(*, err: bool = False) -> bool:
    return (sys.stderr if err else sys.stdout).isatty()
