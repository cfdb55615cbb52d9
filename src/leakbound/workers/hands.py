"""What a worker is to its crew: something that does one task at a time, until it is lost."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from leakbound.errors import LeakboundError


class Lost(Exception):
    """A worker is gone, with the task that it had. The text: its last words."""


class Full(Exception):
    """There is no room for one more worker now."""


class Hand(Protocol):
    """One worker."""

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """What ``function(*args)`` returns or raises there; both are pickled. Raises Lost."""

    def close(self) -> None:
        """End it at once, whatever it does; another thread may be waiting for its answer, and gets Lost."""


class Place(Protocol):
    """Where workers are: this machine, or a cluster."""

    asked: int
    """How many workers were asked for; 0: as many as there is room and work for."""

    def room(self) -> int:
        """How many workers there should be now."""

    def hire(self) -> Hand:
        """One more worker. Raises Full, or Lost where it dies as it begins."""

    def close(self) -> None:
        """Leave the place; its workers are gone."""


def packed(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """A task as bytes."""
    return pickle.dumps((function, args))


def carried_out(task: bytes) -> bytes:
    """Do a task, in the worker: its answer as bytes, or what it raised."""
    try:
        function, args = pickle.loads(task)
        return pickle.dumps((True, function(*args)))
    except Exception as error:  # whatever it is, the one who asked is told
        if not isinstance(error, LeakboundError):
            error.add_note("in a worker:\n" + traceback.format_exc())
        try:
            answer = pickle.dumps((False, error))
            pickle.loads(answer)
        except Exception:  # it cannot travel: its words can
            answer = pickle.dumps((False, RuntimeError("in a worker:\n" + "".join(traceback.format_exception(error)))))
        return answer


def unpacked(answer: bytes) -> Any:
    """The value in an answer; raises what the task raised."""
    well, value = pickle.loads(answer)
    if not well:
        raise value
    return value
