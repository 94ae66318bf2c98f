"""Write the page: HTML that holds its data as JSON, safe for any file name and class name.

Names are never markup. JSON is escaped so that it contains no `<`, the script sets text and no
HTML, and links are percent-encoded. The page's content security policy runs only the page's own
script, by its hash, and loads only pictures, from the disk or from where the page itself is.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import Any

SCRIPTS = ("data.js", "colours.js", "picture.js", "gallery.js", "viewer.js", "main.js")
"""The files of the page's script, in the order in which they are joined."""
_POLICY = (
    "default-src 'none'; img-src 'self' file: data:; script-src 'sha256-{script}'; "
    "style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
)


def render_page(data: dict[str, Any]) -> bytes:
    """Return the page that shows `data`. The same data gives the same bytes."""
    parts = files("camcli.report")
    style = (parts / "page.css").read_text(encoding="utf-8")
    script = "".join((parts / name).read_text(encoding="utf-8") for name in SCRIPTS)
    values = {
        "policy": _POLICY.format(script=_sha256(script), style=_sha256(style)),
        "title": html.escape(data["title"]),
        "style": style,
        "script": script,
        "data": script_json(data),
    }
    template = (parts / "page.html").read_text(encoding="utf-8")
    page = re.sub(r"{{(\w+)}}", lambda match: values[match[1]], template)
    return page.encode(errors="backslashreplace")


def script_json(value: Any) -> str:
    """Return ASCII JSON that is safe inside a script element: it has no `&`, `<` or `>`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _sha256(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
