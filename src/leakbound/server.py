"""A server that speaks the OpenAI protocol (vLLM, transformers serve, llama.cpp, a hosted one): the client, its errors.

Judges and samplers talk to servers through this one door. A judge's retries are the client library's own; where answers
are draws, only a request that was not answered for load or for want of a connection is sent again.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from leakbound.errors import IncompleteRunError, InputError, ModelError

REFUSED = (400, 401, 403, 404, 405, 413, 422)
"""Answers of a server that asking again will not change."""
AGAIN = "what was done so far is kept, run it again"
NOT_AGAIN = (
    "it is not asked again by itself, for a failure that depends on what the model said would then be left out; "
    "what was done so far is kept, and to run it again is sound only where failures do not depend on answers"
)
BUSY = (429, 503)
"""What a server says that has not begun to answer."""
UNSENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""What the client's two kinds of httpx raise before a request is sent."""


class Refused(ModelError):
    """The server will not do what was asked; ``said`` is its reason, ``status`` that of HTTP."""

    def __init__(self, where: str, said: str, status: int) -> None:
        super().__init__(f"{where}: the server refuses: {said}")
        self.said, self.status = said, status

    def __reduce__(self) -> tuple[Any, ...]:  # it may come from a worker
        return ModelError, self.args, self.__dict__


@dataclass(frozen=True)
class Server:
    """Where a server is and how it is asked. Its key, if it wants one, is in the environment variable named."""

    base_url: str
    """With the version, for example http://localhost:8000/v1. InputError where it holds a password or a query."""
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    """Seconds from a request to the last byte of its answer, retries included."""
    retries: int = 5
    draws: bool = False
    """Whether answers are draws, so that a request which failed after it was sent must not be sent again."""

    def __post_init__(self) -> None:
        if "@" in self.base_url or "?" in self.base_url:  # not repeated in the message: it would be printed and kept
            raise InputError(
                "base_url holds an @ or a ?, so perhaps a password or a key, and addresses are written to files: leave "
                f"it out and put the key into the environment variable {self.api_key_env}"
            )
        try:
            parts, said = urlsplit(self.base_url), repr(self.base_url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        except ValueError:
            known, said = False, "no address"  # it may be half of one with a password: not repeated either
        if not known:
            raise InputError(f"base_url is {said}: give an address such as http://localhost:8000/v1")

    @cached_property
    def client(self) -> Any:
        """The client of the ``openai`` package, which follows no redirect. Raises ModelError where it is missing."""
        try:
            import openai
        except ImportError as error:
            raise ModelError(
                f"base_url is {self.base_url!r}: talking to a server needs the openai package: "
                "pip install 'leakbound[openai]'"
            ) from error
        return openai.OpenAI(
            base_url=self.base_url, api_key=os.environ.get(self.api_key_env) or "none", timeout=self.timeout,
            max_retries=0 if self.draws else self.retries,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )  # fmt: skip

    def ask(self, what: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that the server gives for a path below ``base_url``, or for a whole address at its host.

        With ``body`` it is posted. ``what`` names the request in errors: :class:`Refused` for a refusal, ModelError for
        what is no answer of such a server, IncompleteRunError for silence, failures and answers that are not whole.
        """
        client, where = self.client, f"{what} at {self.base_url}"
        import openai

        try:
            text = self._in_time(
                lambda: self._send(
                    lambda: client.get(path, cast_to=str) if body is None else client.post(path, body=body, cast_to=str)
                )
            )
        except TimeoutError as error:
            again = NOT_AGAIN if self.draws else AGAIN
            raise IncompleteRunError(f"{where}: no answer within {self.timeout:g} seconds; {again}") from error
        except openai.APIStatusError as error:
            if 300 <= error.status_code < 400:
                to = urlsplit(str(error.response.headers.get("location", "")))
                raise ModelError(
                    f"{where}: the server sends on to {to.hostname or 'its own'} {to.path}, which may be another "
                    "model: give the address that is meant"
                ) from error
            raise self._failed(where, error.message, error.status_code) from error
        except openai.APIError as error:
            again = NOT_AGAIN if self.draws and not _unanswered(error) else f"{AGAIN} when the server answers"
            raise IncompleteRunError(f"{where}: no answer ({error}); {again}") from error
        return self._object(where, text)

    def _send(self, call: Callable[[], Any]) -> Any:
        """What the call returns. Where answers are draws it is made again, later each time, while nobody has answered;
        otherwise the client does so."""
        for k in range(self.retries if self.draws else 0):
            try:
                return call()
            except Exception as error:
                if not _unanswered(error):
                    raise
                time.sleep(_pause(error, k))
        return call()

    def _in_time(self, call: Callable[[], Any]) -> Any:
        """What the call returns or raises, or TimeoutError: the client's own limits begin again with every byte."""
        box: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                box.put((call(), None))
            except BaseException as error:
                box.put((None, error))

        threading.Thread(target=work, daemon=True).start()
        try:
            value, error = box.get(timeout=self.timeout)
        except queue.Empty:
            raise TimeoutError from None
        if error is not None:
            raise error
        return value

    def _failed(self, where: str, said: str, status: Any) -> ModelError | IncompleteRunError:
        if status in REFUSED:
            return Refused(where, said, status)
        return IncompleteRunError(f"{where}: {said}; {NOT_AGAIN if self.draws and status not in BUSY else AGAIN}")

    def _object(self, where: str, text: str) -> dict[str, Any]:
        """The JSON object in a body; an error object is an error, whatever the status it came with."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            again = NOT_AGAIN if self.draws else AGAIN
            if text.lstrip().startswith("{"):
                raise IncompleteRunError(f"{where}: the answer ends early or is damaged ({error}); {again}") from error
            found = None
        if not isinstance(found, dict):
            raise ModelError(f"{where}: the answer is no JSON object but {text[:80]!r}: is base_url right, with /v1?")
        wrong = found.get("error") or (found if found.get("object") == "error" else None)
        if wrong:
            code = wrong.get("code") if isinstance(wrong, dict) else None
            raise self._failed(where, json.dumps(wrong, ensure_ascii=False)[:500], code)
        return found


def _unanswered(error: BaseException) -> bool:
    """Whether a request has failed for load, or before it was sent: whatever the answer would have been."""
    return getattr(error, "status_code", None) in BUSY or type(error.__cause__).__name__ in UNSENT


def _pause(error: Exception, k: int) -> float:
    """Seconds until a request is sent for the (k + 2)-th time: as the server says, or twice as long each time."""
    try:
        said = float(error.response.headers["retry-after"])  # type: ignore[attr-defined]
    except (AttributeError, KeyError, ValueError):
        said = 0.0
    return said if 0 < said <= 60 else min(0.5 * 2**k, 8.0)
