"""Images of web servers: http:// and https:// URLs, which are read and never written.

`Web` has the part of the interface of pyarrow's file systems that reading needs. It needs no extra.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Iterator
from functools import lru_cache
from html.parser import HTMLParser
from http.client import HTTPException, InvalidURL
from types import SimpleNamespace
from typing import NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urldefrag, urljoin
from urllib.request import HTTPSHandler, OpenerDirector, Request, build_opener

SCHEMES = ("http://", "https://")
SECONDS = 10.0
"""The time that a server may take to connect, and to send the next bytes."""
PAUSES = tuple(0.1 * 2**n for n in range(8))
"""The pauses before a request is repeated, 25 seconds in all."""
MOST_FOLDERS = 30
"""The most folders inside each other that are listed. A server may invent them without end."""
_PASSING = (408, 425, 429)
"""The codes below 500 of failures that may pass."""
_LASTING = (FileNotFoundError, socket.gaierror, ssl.SSLError)
"""The errors that a second request would meet too, but for _CUT."""
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""The errors of TLS for a lost connection."""
_KEPT = "/%:=&?~+!$,;'@()*[]"


class Web:
    """A web server as a file system of pyarrow. `query` follows each URL, as of signed ones."""

    type_name = "http"

    def __init__(self, query: str) -> None:
        self.query = f"?{query}" if query else ""

    def open_input_file(self, url: str) -> io.BytesIO:
        """Return the whole file, by one request. Raises OSError."""
        return io.BytesIO(_get(url + self.query))

    open_input_stream = open_input_file

    def get_file_info(self, url: str) -> SimpleNamespace:
        """Return whether a URL is a page of links, which ends with `/`, or a file."""
        kind = "Directory" if url.endswith("/") else "File"
        found = {"is_file": kind == "File", "type": SimpleNamespace(name=kind)}
        return SimpleNamespace(**found, size=None, mtime_ns=None)

    def open_output_stream(self, url: str, **_: object) -> NoReturn:
        """Refuse to write."""
        raise OSError("a web server is only read")

    create_dir = move = delete_file = open_output_stream

    def files(self, url: str, *, recursive: bool, depth: int = 0) -> Iterator[str]:
        """Yield the URLs of the files that a page links to and that are in the page's folder.

        Raises OSError.
        """
        if depth > MOST_FOLDERS:
            raise OSError(f"more than {MOST_FOLDERS} folders inside each other")
        folder = f"{url.rstrip('/')}/"
        page = _Links()
        page.feed(_get(folder + self.query).decode(errors="replace"))
        for link in dict.fromkeys(urljoin(folder, found) for found in page.found):
            name = urldefrag(link).url.partition("?")[0].removeprefix(folder)
            if name.endswith("/") and name.count("/") == 1 and recursive:
                yield from self.files(folder + name, recursive=True, depth=depth + 1)
            elif name and "/" not in name:
                yield folder + name


class _Links(HTMLParser):
    """Collects the links of a page in `found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the place of a link."""
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _get(url: str) -> bytes:
    """Return the answer to a request, which is repeated while its failure may pass."""
    for pause in PAUSES:
        try:
            return _get_once(url)
        except OSError as error:
            if not _may_pass(error):
                raise _in_words(error) from None
        time.sleep(pause)
    try:
        return _get_once(url)
    except OSError as error:
        raise _in_words(error) from None


@lru_cache(maxsize=1)
def _opener() -> OpenerDirector:
    """Return what opens URLs. The certificates of the system are read once, which takes 20 ms."""
    return build_opener(HTTPSHandler(context=ssl.create_default_context()))


def _get_once(url: str) -> bytes:
    request = Request(quote(url, safe=_KEPT), headers={"User-Agent": "camcli"})  # noqa: S310
    try:
        with _opener().open(request, timeout=SECONDS) as answer:
            return bytes(answer.read())
    except HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise FileNotFoundError(2, "No such file") from None
        raise
    except InvalidURL:  # whose text may have a password
        raise ValueError("expected a URL without a user name, such as https://host/a.jpg") from None
    except HTTPException as error:
        raise OSError(f"an answer that is not whole ({type(error).__name__})") from None


def _may_pass(error: OSError) -> bool:
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in _PASSING
    reason = _behind(error)
    return isinstance(reason, _CUT) or not isinstance(reason, (str, *_LASTING))


def _behind(error: OSError) -> BaseException | str:
    """Return the error that ended a request."""
    return error.reason if isinstance(error, URLError) else error


def _in_words(error: OSError) -> OSError:
    """Return an error of TLS without its numbers, which are not those of the system."""
    reason = _behind(error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return OSError(f"a certificate that is not trusted: {reason.verify_message}")
    return OSError(f"TLS failed: {reason.reason}") if isinstance(reason, ssl.SSLError) else error
