"""The server behind the viewer: this machine only, reading only, one page and what it asks for.

It answers on 127.0.0.1, to whoever names the secret in the address and says in Host that he means this machine, so that
neither another page in the browser (DNS rebinding) nor another user gets an answer. Nothing is read from disk by a name
that a request gives: pages are a fixed list, runs are numbers.
"""

from __future__ import annotations

import contextlib
import gc
import json
import secrets
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from leakbound.errors import InputError, LeakboundError
from leakbound.viewing.found import run_folders

if TYPE_CHECKING:
    from leakbound.viewing.asking import Shelf

HOST = "127.0.0.1"
PAGES = {
    "": ("viewing/page/view.html", "text/html"),
    "prompt.js": ("viewing/page/prompt.js", "text/javascript"),
    "view.js": ("viewing/page/view.js", "text/javascript"),
    "view.css": ("viewing/page/view.css", "text/css"),
    "report.css": ("report/templates/report.css", "text/css"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def view(
    *runs: str | Path,
    retain: Sequence[str | Path] = (),
    port: int = 0,
    open: bool = True,
    guess: str | Path | None = None,
) -> None:
    """Show run folders in the browser until Ctrl-C: prompts, completions and what leaked, side by side for two runs.

    A folder that is no run stands for all runs in it. The page is on this machine alone, at ``port`` or a free one; its
    address is printed, and opened unless ``open`` is False. ``guess``: the run of a model that never saw the secrets.
    ``retain``: more runs, on questions that are to be answered, where "leak" reads "right".
    Nothing is written. Raises InputError where there is no run, or the port is taken.
    """
    folders = run_folders(map(Path, runs), map(Path, retain))
    server = Viewer(port=port)
    with until_interrupted() as interrupted, contextlib.closing(server):
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()  # the browser takes the page while the runs are read
        print(f"view: {server.address}  (Ctrl-C ends it)", flush=True)
        if open:
            threading.Thread(target=webbrowser.open, args=[server.address], daemon=True).start()
        from leakbound.viewing.asking import Shelf  # here, because numpy and pyarrow come with it
        from leakbound.viewing.folder import open_folders

        gc.disable()  # all of what is read stays: looking through it again and again would take as long as reading it
        server.show(Shelf(open_folders(folders, None if guess is None else Path(guess))))
        gc.freeze()
        gc.enable()
        if not interrupted.is_set():
            serving.join()


class _CtrlC(KeyboardInterrupt):
    """Where KeyboardInterrupt itself leaves code that came as a string (dataclasses, within imports), Python dies of
    the signal in the end, though it was caught; not of a kind of it."""


@contextlib.contextmanager
def until_interrupted() -> Iterator[threading.Event]:
    """End at Ctrl-C, which is noted as well as raised: what is raised in a callback of an import, Python drops."""
    interrupted = threading.Event()

    def note(number: int, frame: object) -> None:
        interrupted.set()
        raise _CtrlC

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = ours and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    except BaseException as error:
        if not interrupted.is_set() and not isinstance(error, KeyboardInterrupt):
            raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class Viewer(ThreadingHTTPServer):
    """A server for the runs of a shelf, which may come later: what asks for them waits. InputError for a taken port."""

    daemon_threads = True

    def __init__(self, shelf: Shelf | None = None, port: int = 0) -> None:
        self.key = secrets.token_urlsafe(16)
        self.there: SimpleQueue[Shelf] = SimpleQueue()
        if shelf is not None:
            self.show(shelf)
        try:
            super().__init__((HOST, port), Answering)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"port is {port}: {getattr(error, 'strerror', None) or error}; give another, or none"
            ) from error

    @property
    def address(self) -> str:
        """Where the page is, with its secret."""
        return f"http://{HOST}:{self.server_port}/{self.key}/"

    def show(self, shelf: Shelf) -> None:
        """The runs are there."""
        self.there.put(shelf)

    @property
    def shelf(self) -> Shelf:
        """The runs, once they are there."""
        shelf = self.there.get()
        self.there.put(shelf)
        return shelf

    def call(self, name: str) -> Callable[[dict[str, str]], Any] | None:
        """What answers a request of this name."""
        shelf = self.shelf
        known = {"runs": shelf.runs, "progress": shelf.progress, "prompts": shelf.prompts, "prompt": shelf.prompt}
        return known.get(name.removeprefix("api/")) if name.startswith("api/") else None

    def close(self) -> None:
        """Let the port go."""
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Answering(BaseHTTPRequestHandler):
    """One request."""

    server: Viewer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "leakbound", ""

    def do_GET(self) -> None:
        """Pages and answers below the secret; nothing elsewhere."""
        parts = urlsplit(self.path)
        if self.headers.get("Host", "") not in {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}:
            return self.send(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers to 127.0.0.1 only")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return self.send(HTTPStatus.FORBIDDEN, b"another page asks")
        key, slash, name = parts.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(key.encode(), self.server.key.encode()) or not slash:
            return self.send(HTTPStatus.NOT_FOUND, b"the address that leakbound view printed is needed, whole")
        if name in PAGES:
            return self.send(HTTPStatus.OK, *_page(name))
        query = dict(parse_qsl(parts.query))
        try:
            if name in ("export.jsonl", "export.csv"):
                kind = name.removeprefix("export.")
                text = self.server.shelf.written(query, kind)
                said = "text/csv" if kind == "csv" else "application/jsonl"
                return self.send(HTTPStatus.OK, text.encode("utf-8", "replace"), said, f"leakbound.{kind}")
            call = self.server.call(name)
            if call is None:
                return self.send(HTTPStatus.NOT_FOUND, b"there is nothing of that name")
            status, found = HTTPStatus.OK, call(query)
        except InputError as error:
            status, found = HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except (LeakboundError, OSError) as error:
            status, found = HTTPStatus.CONFLICT, {"error": str(error)}
        return self.send(status, json.dumps(found).encode(), "application/json")

    def send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain", saved_as: str = "") -> None:
        """An answer with its headers."""
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if saved_as:
            self.send_header("Content-Disposition", f'attachment; filename="{saved_as}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the addresses hold the secret."""


@cache
def _page(name: str) -> tuple[bytes, str]:
    file, kind = PAGES[name]
    return files("leakbound").joinpath(file).read_bytes(), kind
