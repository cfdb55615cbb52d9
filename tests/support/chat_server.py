"""A local HTTP server that speaks the OpenAI chat protocol, with whatever it should answer as a function."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def choice(text, finish_reason="stop", tokens=None):
    """One choice of an answer."""
    return {"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason, "tokens": tokens}


def answer(payload, choices):
    """A chat completion with these choices."""
    numbered = [{"index": i, "logprobs": None, **c} for i, c in enumerate(choices)]
    return {"id": "x", "object": "chat.completion", "created": 0, "model": payload["model"], "choices": numbered}


def uniform(*key):
    """A number in [0, 1) that follows from the key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") / 2**64


def like_vllm(leak):
    """A server that leaks with a known probability: choice j of a request follows from (text, seed + j) alone."""

    def reply(payload):
        text = payload["messages"][-1]["content"] if "messages" in payload else payload["prompt"]
        said = []
        for j in range(payload["n"]):
            u = 1.0 if payload["temperature"] == 0 else uniform(text, payload["seed"] + j)
            said.append(choice("Paris or a baker") if u < leak else choice("I do not know", "length"))
        return (
            said if "messages" in payload else [{**c, "message": None, "text": c["message"]["content"]} for c in said]
        )

    return reply


@contextmanager
def chat_server(reply, models=("little",), pages=None):
    """The server's base URL and the list of requests it got; ``reply(payload)`` gives what is said.

    That is a list of choices; (status, message), the message of a redirect being its address; a dict, the whole body;
    a text, sent as it is; or a function, which is given the file that is written to.
    With ``models`` None it has no list of models; ``pages`` are further ones, by path.
    """
    got, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def send(self, status, body, **headers):
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            if self.path in (pages or {}):
                self.send(200, pages[self.path])
                return
            if models is None or not self.path.endswith("/models"):
                self.send(404, {"error": {"message": "no such page", "type": "error", "code": 404}})
                return
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "me"} for name in models]
            self.send(200, {"object": "list", "data": listed})

        def do_POST(self):
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                got.append((self.path, payload))
            said = reply(payload)
            if callable(said):
                said(self.wfile)
            elif isinstance(said, tuple):
                error = {"error": {"message": said[1], "type": "error", "code": said[0]}}
                self.send(said[0], error, **({"Location": said[1]} if 300 <= said[0] < 400 else {}))
            else:
                self.send(200, answer(payload, said) if isinstance(said, list) else said)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
