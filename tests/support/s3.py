"""An S3 server on this machine (moto), and a proxy in front of it that fails some of its requests."""

import os
import random
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

FAULTS = ("503", "reset before", "reset after")
"""The server is busy; the connection is reset before the server has seen the request; after it has done it."""
BUSY = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>busy</Message></Error>"
OWN = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Proxy(ThreadingHTTPServer):
    """Passes requests on; a ``share`` of them fails, drawn from ``seed``. ``counts`` of methods and faults."""

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
        behind = HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
        behind.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        answer = behind.getresponse()
        found, length = answer.read(), answer.headers.get("Content-Length")
        behind.close()
        if kind == "reset after":
            return self._reset()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in OWN}
        self._say(answer.status, kept, found, length)

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
def s3_server(share=0.0, seed=0):
    """The proxy before a new server with the bucket ``bucket``; the environment says where it is."""
    import logging

    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # which know another server
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    told = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MOTO_S3_DEFAULT_MAX_KEYS": "7",  # a page of a list
    }
    before = {name: os.environ.get(name) for name in (*told, "AWS_ENDPOINT_URL")}
    os.environ.update(told)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    urlopen(Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()  # what an earlier one held
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket="bucket")
    proxy = Proxy(port, share, seed)
    os.environ["AWS_ENDPOINT_URL"] = proxy.address
    serving = threading.Thread(target=proxy.serve_forever, daemon=True)
    serving.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def objects(proxy, prefix):
    """What the server holds below a prefix, asked without the proxy and without fsspec."""
    import boto3

    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{proxy.behind}")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=f"{prefix}/")
    names = [found["Key"] for page in pages for found in page.get("Contents", ())]
    return {n.removeprefix(f"{prefix}/"): client.get_object(Bucket="bucket", Key=n)["Body"].read() for n in names}


def unfinished(proxy):
    """Uploads in parts that nobody has ended."""
    import boto3

    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{proxy.behind}")
    return client.list_multipart_uploads(Bucket="bucket").get("Uploads", [])
