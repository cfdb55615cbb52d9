"""A browser for tests, driven over its own pipe: Chromium's debugging protocol, without a driver or a package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "no Chromium on the PATH: install chromium, or google-chrome"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One tab; ``requests`` are the addresses that it asked for since it was opened."""

    def __init__(self, browser: Browser) -> None:
        self.browser, self.requests = browser, []
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **params)

    def open(self, where: str | Path, *, width: int = 1280, height: int = 800, dark: bool = False) -> Page:
        """Load a file or an address, at a width and in a colour scheme, and wait until it has loaded."""
        url = where.resolve().as_uri() if isinstance(where, Path) else where
        self.size(width, height, dark=dark)
        self.requests.clear()
        self.browser.events.clear()
        self.send("Page.navigate", url=url)
        self.browser.until("Page.loadEventFired", self.session)
        self.evaluate("1")
        self.requests += [e["params"]["request"]["url"] for e in self.browser.events if e["method"] == "Network.requestWillBeSent"]
        return self

    def size(self, width: int, height: int = 800, *, dark: bool = False) -> None:
        """A window of so many pixels, light or dark; a narrow one is a telephone's."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, script: str) -> Any:
        """What the script says, as plain data; a promise is waited for."""
        said = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said:
            raise AssertionError(said["exceptionDetails"])
        return said["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """A PNG of the page, or of what is on the screen."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def pdf(self, path: Path) -> Path:
        """What a printer gets, on A4."""
        data = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def close(self) -> None:
        self.send("Page.close")


class Browser:
    """A running Chromium with a profile of its own, which :meth:`close` deletes."""

    def __init__(self) -> None:
        if CHROMIUM is None:
            raise RuntimeError(NO_BROWSER)
        self.profile = tempfile.mkdtemp(prefix="leakbound-browser-")
        theirs_in, self.ours_out = os.pipe()
        self.ours_in, theirs_out = os.pipe()
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'  # the protocol is spoken on descriptors 3 and 4
        self.process = subprocess.Popen(
            ["sh", "-c", shell, CHROMIUM, *FLAGS, f"--user-data-dir={self.profile}"],
            pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.events: list[dict[str, Any]] = []
        self._ids, self._rest = count(1), b""

    def send(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.ours_out, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
        raise AssertionError(f"{method}: the browser ended")

    def until(self, event: str, session: str) -> None:
        """Wait for an event of a page that has not come yet."""
        if any(e["method"] == event and e.get("sessionId") == session for e in self.events):
            return
        for message in self._messages():
            if message.get("method") == event and message.get("sessionId") == session:
                return

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" not in self._rest:
                more = os.read(self.ours_in, 1 << 20)
                if not more:
                    return
                self._rest += more
            line, _, self._rest = self._rest.partition(b"\0")
            message = json.loads(line)
            if "method" in message:
                self.events.append(message)
            yield message

    def page(self) -> Page:
        return Page(self)

    def close(self) -> None:
        try:
            self.send("Browser.close")
            self.process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.ours_out)
        os.close(self.ours_in)
        shutil.rmtree(self.profile, ignore_errors=True)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser while it is used."""
    browser = Browser()
    try:
        yield browser
    finally:
        browser.close()
