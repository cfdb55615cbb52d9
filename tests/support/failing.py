"""A proxy in front of a store on this machine, which fails some of its requests."""

import os
import random
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("503", "reset before", "reset after")
"""The server is busy; the connection is reset before the server has seen the request; after it has done it."""
BUSY = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>busy</Message></Error>"
OWN = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Proxy(ThreadingHTTPServer):
    """Passes requests on; a ``share`` of them fails, drawn from ``seed``. ``counts`` of methods and faults. Each store
    says by which method objects are ``sent`` and at which ``root``, and, asked without the proxy and without fsspec,
    what it holds."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, behind, share=0.0, seed=0):
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind, self.share, self.chance = behind, share, random.Random(seed)
        self.counts, self.lock = Counter(), threading.Lock()

    def handle_error(self, request, address):
        """A client that went away."""

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()

    def pass_on(self, method, path, body=b"", headers=()):
        """What the store says: status, headers, bytes, and the length that it names."""
        behind = HTTPConnection("127.0.0.1", self.behind, timeout=60)
        behind.request(method, path, body, {**dict(headers), "Content-Length": str(len(body))})
        answer = behind.getresponse()
        found = answer.read()
        behind.close()
        return answer.status, dict(answer.getheaders()), found, answer.headers.get("Content-Length")

    def fault(self, method):
        with self.lock:
            self.counts[method] += 1
            fails, kind = self.chance.random() < self.share, self.chance.choice(FAULTS)
            if not fails:
                return None
            self.counts[kind] += 1
            return kind


class Passing(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def handle_expect_100(self):
        said = super().handle_expect_100()
        self.wfile.flush()
        return said

    def _body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return found

    def _reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _pass(self):
        body, kind = self._body(), self.server.fault(self.command)
        if kind == "reset before":
            return self._reset()
        if kind == "503":
            return self._say(503, {"Content-Type": "application/xml"}, BUSY)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
        status, said, found, length = self.server.pass_on(self.command, self.path, body, headers)
        if kind == "reset after":
            return self._reset()
        self._say(status, {k: v for k, v in said.items() if k.lower() not in OWN}, found, length)

    def _say(self, status, headers, body, length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass


@contextmanager
def environment(**told):
    """Variables of the environment, as they were afterwards."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
