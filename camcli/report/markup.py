"""HTML pages that are written as they are shown: elements whose texts are never markup.

Used by the pages of `camcli audit` and `camcli compare`. The page of `camcli report` draws itself
by a script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import Element, tostring

from camcli.errors import printable
from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import is_member

POLICY = (
    "default-src 'none'; img-src 'self' file: data:; script-src 'sha256-{script}'; "
    "style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
)
"""The content security policy: a page runs only its own script, by its hash, and loads pictures
from the disk or from where the page is."""


def element(tag: str, *content: Element | str | None, **attributes: str | None) -> Element:
    """Return an element with texts and elements in it. None is left out.

    `class_`, `for_` and the like are the attributes without the underscore at the end; other
    underscores stand for hyphens. Control characters and undecodable bytes are escaped.
    """
    named = {
        name.removesuffix("_").replace("_", "-"): _shown(value)
        for name, value in attributes.items()
        if value is not None
    }
    made = Element(tag, named)
    for one in content:
        if isinstance(one, Element):
            made.append(one)
        elif one and len(made):
            made[-1].tail = (made[-1].tail or "") + _shown(one)
        elif one:
            made.text = (made.text or "") + _shown(one)
    return made


def _shown(text: str) -> str:
    return text if text.isprintable() else printable(text)


def picture_url(data: bytes, kind: str) -> str:
    """Return the address of a picture that a page holds itself. `kind` is `webp` or `png`."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def link(file: AnyPath, page_file: AnyPath) -> str | None:
    """Return the address of a file in a page, None where a browser that shows the page has none.

    A browser opens no member of a tar, and no file of a store from a page that is not in its
    bucket.
    """
    if is_member(file):
        return None
    if isinstance(file, RemotePath):
        if isinstance(page_file, RemotePath) and file.bucket == page_file.bucket:
            return _relative_key(file.key, page_file.parent.key)
        return None
    return None if isinstance(page_file, RemotePath) else _relative_path(file, page_file)


def _relative_key(key: str, folder: str) -> str:
    """Return the address of a key relative to a folder, where empty parts count."""
    parts, base = key.split("/"), folder.split("/") if folder else []
    same = takewhile(lambda pair: pair[0] == pair[1], zip(parts[:-1], base, strict=False))
    common = sum(1 for _ in same)
    way = [*[".."] * (len(base) - common), *parts[common:]]
    return quote("/".join(way if way[0] else [".", *way]).encode(errors="surrogateescape"))


def _relative_path(file: Path, page_file: Path) -> str:
    """Return the address of a file relative to the page, percent-encoded byte by byte."""
    folder = os.path.realpath(page_file.parent)
    target = os.path.join(os.path.realpath(file.parent), file.name)
    try:
        path = os.path.relpath(target, folder)
    except ValueError:  # on another drive of Windows
        return Path(target).as_uri()
    return quote(os.fsencode(Path(path).as_posix()))


def page(title: str, body: Element, style: str, script: str) -> bytes:
    """Return a page. `style` and `script` are the names of files beside this one."""
    parts = files("camcli.report")
    css, code = (
        "".join((parts / name).read_text(encoding="utf-8") for name in names.split())
        for names in (style, script)
    )
    policy = POLICY.format(script=sha256(code), style=sha256(css))
    shown = tostring(body, encoding="unicode", method="html")
    text = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        f'<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(_shown(title))}</title>\n<style>{css}</style>\n</head>\n"
        f"{shown}\n<script>{code}</script>\n</html>\n"
    )
    return text.encode(errors="backslashreplace")


def sha256(source: str) -> str:
    """Return the hash of a style or script as content security policies name it."""
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
