"""Chromium, driven by the WebDriver protocol (https://www.w3.org/TR/webdriver2/) over plain HTTP: no package is needed.

``make browser`` installs both programs where it can.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
MISSING = "needs Chromium and chromedriver: `make browser` installs them, or $CHROMIUM and $CHROMEDRIVER name them"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --no-proxy-server --disable-dev-shm-usage"
)
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "ArrowDown": "\ue015", "ArrowUp": "\ue013"}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window with an empty profile, from ``with`` to its end."""

    def __init__(self, width=1280, height=900):
        self.width, self.height = width, height

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        log = Path(self.folder.name) / "driver.log"
        with log.open("w") as out:
            self.driver = subprocess.Popen([DRIVER, "--port=0"], stdout=out, stderr=out)
        while (port := re.search(r"successfully on port (\d+)", log.read_text())) is None:
            assert self.driver.poll() is None, log.read_text()
            time.sleep(0.02)
        self.base = f"http://127.0.0.1:{port[1]}"
        self.open = build_opener(ProxyHandler({})).open
        args = [*FLAGS.split(), f"--user-data-dir={self.folder.name}/profile"]
        options = {"binary": CHROMIUM, "args": args}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        made = self.ask("", {"capabilities": {"alwaysMatch": wanted}}, session="/session")
        self.session = f"/session/{made['sessionId']}"
        self.shape(self.width, self.height)
        return self

    def __exit__(self, *_):
        try:
            self.ask("", method="DELETE")
        finally:
            self.driver.terminate()
            self.driver.wait()
            self.folder.cleanup()

    def ask(self, path, body=None, *, method=None, session=None):
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.base}{session or self.session}{path}", data, method=method)
        try:
            with self.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:2000]}") from error

    def cdp(self, command, **params):
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": params})

    def shape(self, width, height, *, dark=False, media=""):
        """The size of the page in pixels, and how it is looked at."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def go(self, url):
        self.ask("/url", {"url": url})

    def back(self):
        """What the button does. A script that leaves its own page fails where the page goes first."""
        self.ask("/back", {})

    def run(self, script, *args):
        """What a function body returns in the page."""
        return self.ask("/execute/sync", {"script": script, "args": args})

    def until(self, script, *args, seconds=20):
        """Wait until it returns something true, and return that."""
        end = time.monotonic() + seconds
        while not (found := self.run(script, *args)):
            assert time.monotonic() < end, (
                f"still not so: {script}\n{self.run('return document.body.innerText')[:2000]}"
            )
            time.sleep(0.03)
        return found

    def press(self, *keys):
        """Keys by name, or a text letter by letter, to whatever has the focus."""
        letters = [k for key in keys for k in ([KEYS[key]] if key in KEYS else key)]
        actions = [{"type": kind, "value": k} for k in letters for kind in ("keyDown", "keyUp")]
        self.ask("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def click(self, css):
        element = self.ask("/element", {"using": "css selector", "value": css})[ELEMENT]
        self.ask(f"/element/{element}/click", {})

    def picture(self, file):
        Path(file).write_bytes(base64.b64decode(self.ask("/screenshot")))

    def logs(self, kind="browser"):
        """What the page's console said since it was asked last."""
        return self.ask("/se/log", {"type": kind})

    def requested(self):
        """The addresses that were asked for since this was asked last."""
        events = [json.loads(entry["message"])["message"] for entry in self.logs("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
