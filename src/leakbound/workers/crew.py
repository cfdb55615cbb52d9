"""Work spread over workers: a task that was lost is done again, and nothing of the result shows how it was spread.

Whoever asks (the *driver*) keeps all results: workers write nothing, so that a cluster needs no common disk. A piece of
work is a generator that runs in a thread of the driver and has its tasks done by one worker; what it yields is handed
over in its order, to one thread. A worker that dies is replaced, and its task, which is a pure function, begins anew.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from leakbound.errors import InputError, WorkerError
from leakbound.records import check_count
from leakbound.workers import seats
from leakbound.workers.hands import Full, Lost, Place
from leakbound.workers.seats import Seat

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK = 1.0
"""Seconds between two looks at how many workers there is room for."""
PATIENCE = 600.0
"""Seconds without any worker after which a piece is given up."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """On which processes the work is done. No file says so, and no name of one depends on it: it changes nothing."""

    workers: int = field(default=0, repr=False)
    """Do the work in so many processes, each with the model; 0: in this one. With ray the most of them, 0: as many as
    the cluster has room for."""
    threads: int = field(default=1, repr=False)
    """Threads of each worker on a CPU. Another number is another rounding, so it does not follow from workers."""
    ray: str | None = field(default=None, repr=False)
    """Address of a Ray cluster whose nodes do the work: auto, HOST:PORT or ray://HOST:PORT."""

    def __post_init__(self) -> None:
        check_count("workers", self.workers, least=0)
        check_count("threads", self.threads, least=1)
        if self.threads > 1 and not self.away:
            raise InputError(f"threads is {self.threads} without workers: give workers too, or set OMP_NUM_THREADS")

    @property
    def away(self) -> bool:
        """Whether others do the work."""
        return self.workers > 0 or self.ray is not None


def crew_for(workers: Workers) -> Crew | None:
    """The workers, none of them begun; None where this process works itself."""
    if workers.ray is not None:
        from leakbound.workers.cluster import Cluster

        return Crew(Cluster(workers.ray, workers.workers, workers.threads))
    from leakbound.workers.processes import Processes

    return Crew(Processes(workers.workers, workers.threads)) if workers.workers else None


class Do(Protocol):
    """Has a function called: here, or by a worker."""

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """What it returns or raises."""


def here(function: Callable[..., Any], *args: Any) -> Any:
    """Do it in this process."""
    return function(*args)


class Crew:
    """The workers of a place. They go when nobody holds their crew any more, and with this process."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.first: list[tuple[Any, ...]] = []
        """Tasks that every worker does before any other, one that takes the place of another too."""
        self.idle: list[Seat] = []
        self._end = weakref.finalize(self, _end, self.idle, place)

    def close(self) -> None:
        """End all workers."""
        self._end()

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Have one task done."""
        return self._done(self.seat(), function, *args)

    def everywhere(self, function: Callable[..., Any], *args: Any) -> Any:
        """Have a task done that all workers need: those that were asked for begin with it now, and one answers."""
        seat = self.seat()
        others = [self.seat() for _ in range(self.place.asked - 1)]
        for other in others:
            other.begin(self.first, function, *args)
        self.idle += others
        try:
            return self._done(seat, function, *args)
        except BaseException:
            self.close()  # whoever holds the error holds the crew
            raise

    def _done(self, seat: Seat, function: Callable[..., Any], *args: Any) -> Any:
        begin = time.monotonic()
        try:
            while True:
                try:
                    return seat.do(self.first, function, *args)
                except Full:
                    _check_patience(begin, function.__name__)
                except Lost as lost:
                    raise _given_up(function.__name__, lost) from lost
        finally:
            self.leave(seat)

    def seat(self) -> Seat:
        """A seat for somebody; of those that are idle one whose worker lives, or begins."""
        while self.idle:
            if (seat := self.idle.pop()).hand is not None or (seat.before and seat.before.is_alive()):
                return seat
        return Seat(self.place)

    def leave(self, seat: Seat) -> None:
        """It is idle; one without a worker is none, else it would be taken before those whose workers hold a place."""
        if seat.hand is not None:
            self.idle.append(seat)

    def spread(
        self, items: Iterable[Item], work: Callable[[Do, Item], Iterable[Result]], name: Callable[[Item], str]
    ) -> Generator[tuple[Item, Result], None, None]:
        """What :func:`spread` says."""
        on_their_way = _Spread(self, iter(items), work, name)
        try:
            yield from on_their_way.results()
        finally:
            on_their_way.end()


@contextlib.contextmanager
def spread(
    crew: Crew | None,
    items: Iterable[Item],
    work: Callable[[Do, Item], Iterable[Result]],
    name: Callable[[Item], str] = str,
) -> Iterator[Iterator[tuple[Item, Result]]]:
    """Each result of ``work(do, item)`` with its item: those of an item in their order, items as they come.

    As many items are worked on at once as there are workers, each by one of them, and no more results than that wait to
    be taken. ``work`` calls what is heavy by ``do``. It begins again at an item that finds no worker any more, after
    all its results were taken. Without a crew all is done here, one item after the other. ``name`` says which item it
    was where one is given up (WorkerError). Whatever ends the ``with`` early ends the tasks that are being done.
    """
    if crew is None:
        yield ((item, result) for item in items for result in work(here, item))
        return
    with contextlib.closing(crew.spread(items, work, name)) as results:
        yield results


def collected(
    crew: Crew | None,
    items: Iterable[Item],
    work: Callable[[Do, Item], Result],
    name: Callable[[Item], str] = str,
    each: Callable[[], None] = lambda: None,
) -> list[Result]:
    """``[work(do, item) for item in items]``; ``each`` is called when one of them is there."""
    results: dict[int, Result] = {}
    with spread(crew, enumerate(items), lambda do, pair: [work(do, pair[1])], lambda pair: name(pair[1])) as found:
        for (number, _), result in found:
            results[number] = result
            each()
    return [results[number] for number in sorted(results)]


class _Spread:
    """Items on their way through the workers of a crew."""

    def __init__(
        self, crew: Crew, items: Iterator[Any], work: Callable[[Do, Any], Iterable[Any]], name: Callable[[Any], str]
    ) -> None:
        self.crew, self.items, self.work, self.name = crew, items, work, name
        self.back: list[Any] = []
        """Items that found no worker."""
        self.lock, self.exhausted = threading.Lock(), False
        self.over = threading.Event()
        self.found: queue.Queue[tuple[str, Any, Any]] = queue.Queue(maxsize=1)
        self.running: dict[Seat, threading.Thread] = {}

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Each result with its item."""
        full: float | None = None
        room, looked = 0, -LOOK
        while True:
            if (now := time.monotonic()) >= looked + LOOK:  # a cluster is asked over its network
                room, looked = self.crew.place.room(), now
            while (self.back or not self.exhausted) and len(self.running) < room:
                seat = self.crew.seat()
                self.running[seat] = threading.Thread(target=self._go, args=(seat,), daemon=True)
                self.running[seat].start()
            if not self.running and not self.back and self.exhausted:
                return
            try:
                what, item, value = self.found.get(timeout=LOOK)
            except queue.Empty:
                continue
            if what == "result":
                full = None
                yield item, value
            elif what == "error":
                raise _given_up(self.name(item), value) if isinstance(value, Lost) else value
            elif what == "full":
                self.back.append(item)
                full = full or time.monotonic()
                if not any(seat.hand for seat in self.running):
                    _check_patience(full, self.name(item))
            else:
                self.running.pop(value).join()
                self.crew.leave(value)

    def end(self) -> None:
        """End what is being done, if anything is."""
        self.over.set()
        for seat in self.running:
            seat.ended = True
            seat.close()
        for seat, thread in self.running.items():
            begin = time.monotonic()
            while thread.is_alive() and time.monotonic() - begin < 10 * LOOK:
                with contextlib.suppress(queue.Empty):  # what nobody takes any more would be waited with
                    self.found.get(timeout=LOOK / 100)
            if not thread.is_alive():
                seat.ended = False
                self.crew.leave(seat)

    def _go(self, seat: Seat) -> None:
        """One thread: items until there are no more, by the worker of one seat."""
        item: Any = None
        do = partial(seat.do, self.crew.first)
        try:
            while not self.over.is_set():
                with self.lock:
                    if self.back:
                        item = self.back.pop()
                    else:
                        item = next(self.items, self)
                        self.exhausted = self.exhausted or item is self
                if item is self:
                    break
                for result in self.work(do, item):
                    self._put("result", item, result)
        except Full:
            self._put("full", item, None)
        except BaseException as error:  # told to the one who waits for it
            self._put("error", item, error)
        self._put("ended", None, seat)

    def _put(self, what: str, item: Any, value: Any) -> None:
        while not self.over.is_set():
            with contextlib.suppress(queue.Full):
                self.found.put((what, item, value), timeout=LOOK)
                return


def _end(idle: list[Seat], place: Place) -> None:
    for seat in idle:
        seat.ended = True
        seat.close()
    idle.clear()
    place.close()


def _given_up(name: str, lost: Lost) -> WorkerError:
    return WorkerError(f"{name} was given up: its worker died {seats.TRIES} times, the last one {lost}")


def _check_patience(begin: float, name: str) -> None:
    if time.monotonic() - begin > PATIENCE:
        raise WorkerError(f"{name} was given up: there was no room for a worker for {PATIENCE:.0f} seconds")
