"""The crew of ``leakbound.workers`` as a discrete simulation: who gets which shard, who waits for whom, what dies.

The rule is that of ``workers/crew.py`` and ``auditing/drawing.py: draw_parts``. A worker takes the next shard of the
list and draws it piece by piece; a piece whose worker died is drawn again, by a new worker that has to be loaded first.
The driver takes one result after the other; one more may wait in its queue, and whoever has another one waits with it
and draws nothing. A stage (greedy answers, draws, a round of a run that may stop early) begins when the one before it
is on the disk.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from leakbound.workers.seats import TRIES


class GivenUpError(Exception):
    """A piece killed, or outlived, as many workers as it may."""


@dataclass(frozen=True)
class Driver:
    """Seconds of the driver, whose threads share one lock: what it does with a piece of a shard, and with a shard."""

    piece: float = 0.0
    """A piece: its draws are unpacked and written."""
    shard: float = 0.0
    """A shard of several pieces: all of its draws are put in order and written again."""
    file: float = 0.0
    """For each piece of any shard that lies in the folder when one is written: the folder is looked through."""
    known: float = 0.0
    """For each earlier piece of the shard: it is sent along with the question for the next one."""


@dataclass(frozen=True)
class Stage:
    """Shards that may be drawn in any order; ``seconds``: of each one, on a worker of the usual pace."""

    seconds: NDArray[np.float64]
    pieces: int = 1
    driver: Driver = Driver()


@dataclass(frozen=True)
class Staff:
    """``load``: seconds until a new worker has the model; ``mtbf``: mean seconds until it dies; ``slow``: sigma of the
    workers' paces, lognormal with mean 1."""

    workers: int
    load: float = 0.0
    mtbf: float = math.inf
    slow: float = 0.0


@dataclass
class Outcome:
    """Seconds: of the clock, of the driver, and, of all workers together, what became of them."""

    wall: float = 0.0
    driver: float = 0.0
    useful: float = 0.0
    loading: float = 0.0
    """The first loading of each worker."""
    lost: float = 0.0
    """Work of workers that died, and the loading of those in their place."""
    waiting: float = 0.0
    """With a result that the driver cannot take."""
    idle: float = 0.0
    """Without a shard: the others' last ones are not done."""
    deaths: int = 0
    kept: list[tuple[int, int, int]] = field(default_factory=list)
    """Stage, shard and piece in the order in which the driver took them."""


def lognormal(rng: np.random.Generator, sigma: float, size: int) -> NDArray[np.float64]:
    """Numbers with mean 1."""
    return np.exp(sigma * rng.standard_normal(size) - sigma**2 / 2)


def simulate(staff: Staff, stages: Sequence[Stage], seed: int = 0) -> Outcome:
    """One run of all stages; GivenUpError where a piece is lost :data:`TRIES` times."""
    run, now = _Run(staff, np.random.default_rng(seed)), 0.0
    for number, stage in enumerate(stages):
        now = run.stage(number, stage, now)
    run.out.wall = now
    return run.out


class _Run:
    def __init__(self, staff: Staff, rng: np.random.Generator) -> None:
        self.staff, self.rng, self.out = staff, rng, Outcome()
        self.pace = lognormal(rng, staff.slow, staff.workers)
        self.ends: list[float | None] = [None] * staff.workers
        """When each worker dies; None where there is none yet."""
        self.loaded = [False] * staff.workers

    def stage(self, number: int, stage: Stage, start: float) -> float:
        """All shards of a stage; when it ends."""
        events: list[tuple[float, int, int, int, int]] = []
        shards, order, files = iter(range(len(stage.seconds))), 0, 0
        free = [start] * self.staff.workers
        costs, taken, place = stage.driver, start, start  # when the driver, and the place in its queue, are free

        def go_on(worker: int, when: float) -> None:
            nonlocal order
            free[worker] = when
            if (shard := next(shards, None)) is not None:  # its first result says what is known of it
                heapq.heappush(events, (when, order := order + 1, worker, shard, -1))

        for worker in sorted(range(self.staff.workers), key=lambda w: not self.loaded[w]):
            go_on(worker, start)
        while events:
            when, _, worker, shard, piece = heapq.heappop(events)
            put = max(when, place)
            self.out.waiting += put - when
            place = max(put, taken)
            seconds = costs.file * files + costs.known * (piece + 1) * (piece < stage.pieces - 1)
            last = piece == stage.pieces - 1
            if piece >= 0:
                self.out.kept.append((number, shard, piece))
                seconds += costs.piece + costs.shard * (last and stage.pieces > 1)
                files += 1 if not last else 1 - stage.pieces
            taken = place + seconds
            self.out.driver += seconds
            if last:
                go_on(worker, put)
            else:
                done = self.work(worker, put, stage.seconds[shard] / stage.pieces)
                heapq.heappush(events, (done, order := order + 1, worker, shard, piece + 1))
        end = max(taken, *free)
        self.out.idle += sum(end - one for one in free)
        return end

    def work(self, worker: int, when: float, seconds: float) -> float:
        """When a piece is drawn, by this worker or those that take its place."""
        seconds *= float(self.pace[worker])
        for _ in range(TRIES):
            end = self.ends[worker]
            if end is None:
                end = when + float(self.rng.exponential(self.staff.mtbf)) if self.staff.mtbf < math.inf else math.inf
                loading = min(self.staff.load, end - when)
                if self.loaded[worker] or end < when + self.staff.load:
                    self.out.lost += loading
                else:
                    self.out.loading += loading
                    self.loaded[worker] = True
                when += loading
                self.ends[worker] = end
            if end >= when + seconds:
                self.out.useful += seconds
                return when + seconds
            self.out.lost += max(0.0, end - when)
            self.out.deaths += 1
            when, self.ends[worker] = max(when, end), None
        raise GivenUpError(f"a piece of {seconds:.0f} s was lost {TRIES} times")


def on_paper(staff: Staff, stages: Sequence[Stage], spread: float) -> float:
    """The same by a formula; ``spread``: sigma of the shards' seconds, lognormal.

    Of each stage the larger of two: what the driver takes; and the work over the workers, with what deaths cost, and at
    the end the longest of the last shards less what the others still had to do, with the loading of new workers.
    """
    total, loaded = 0.0, 0
    for stage in stages:
        count, mean, workers = len(stage.seconds), float(stage.seconds.mean()), min(staff.workers, len(stage.seconds))
        sigma = math.hypot(spread, staff.slow)
        loss = 1 + (mean / stage.pieces / 2 + staff.load) / staff.mtbf
        longest = mean * math.exp(sigma * math.sqrt(2 * math.log(workers)) - sigma**2 / 2) if workers > 1 else mean
        tail = max(0.0, longest - mean * math.exp(sigma**2) / 2) if workers < count else longest - mean
        work = count * mean * loss / (workers * math.exp(staff.slow**2)) + (workers > 1) * tail
        costs, files = stage.driver, workers * (stage.pieces - 1) / 2
        each = costs.piece + costs.file * files + costs.known * (stage.pieces - 1) / 2
        work += staff.load * (workers > loaded)
        loaded = max(loaded, workers)
        total += max(work, count * (stage.pieces * each + costs.shard * (stage.pieces > 1)))
    return total
