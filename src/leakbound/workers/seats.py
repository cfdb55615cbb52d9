"""The place of one worker of a crew: hired when it is needed, replaced where it died, told first what comes first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from leakbound.workers.hands import Hand, Lost, Place

TRIES = 4
"""How often a task is begun before its piece is given up: three workers may die of it, or beside it."""


class Seat:
    """The place of one worker, whoever has it now."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.hand: Hand | None = None
        self.begun: list[tuple[Any, ...]] = []
        self.before: threading.Thread | None = None
        """What it does by itself, before it does anything for others."""
        self.ended = False

    def begin(self, *task: Any) -> None:
        """:meth:`do` for nobody: without an answer, and once."""
        self.before = threading.Thread(target=self._begin, args=(self.before, *task), daemon=True)
        self.before.start()

    def _begin(self, before: threading.Thread | None, *task: Any) -> None:
        if before is not None:
            before.join()
        with contextlib.suppress(Exception):  # whoever asks again is told
            self._try(*task)

    def do(self, first: list[tuple[Any, ...]], function: Callable[..., Any], *args: Any) -> Any:
        """Have a task done, after those that come first. Lost where it was lost too often, Full without a worker."""
        if self.before is not None:
            self.before.join()
        for left in reversed(range(TRIES)):
            try:
                return self._try(first, function, *args)
            except Lost:
                if self.ended or not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _try(self, first: list[tuple[Any, ...]], function: Callable[..., Any], *args: Any) -> Any:
        try:
            if (hand := self.hand) is None:
                hand, self.begun = self.place.hire(), []
                self.hand = hand
            if self.ended:
                raise Lost("it was ended")
            for task in first:
                if not any(task is done for done in self.begun):
                    hand.do(*task)
                    self.begun.append(task)
            return hand.do(function, *args)
        except Lost:
            self.close()
            raise

    def close(self) -> None:
        """End the worker that has it."""
        hand, self.hand = self.hand, None
        if hand is not None:
            hand.close()
