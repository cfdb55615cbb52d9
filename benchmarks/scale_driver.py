"""What the driver does, measured: with a shard's draws, with a store, with a crew that sleeps (docs/scale.md)."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scale_crew import Driver, Staff, Stage, lognormal, simulate

from leakbound.auditing.concluding import Collected
from leakbound.auditing.drawing import Statement, sample
from leakbound.auditing.scoring import score
from leakbound.auditing.steps import bound
from leakbound.models import FakeModel
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.runs.places import Place
from leakbound.runs.store import Run
from leakbound.workers import Crew
from leakbound.workers.hands import Lost, packed, unpacked


def least(act: Callable[[], Any], times: int = 3, clock: Callable[[], float] = time.process_time) -> float:
    """The fewest seconds that it took, of the processor, for the machine has other work."""
    taken = []
    for _ in range(times):
        start = clock()
        act()
        taken.append(clock() - start)
    return min(taken)


def synced(folder: Path) -> float:
    """The fewest seconds of the clock until a small file and its folder are on the disk."""

    def act() -> None:
        with (folder / "synced").open("wb") as file:
            file.write(b"x" * 20_000)
            file.flush()
            os.fsync(file.fileno())
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    return least(act, 20, time.perf_counter)


def driver(texts: list[str], folder: Path, prompts: int = 4, n: int = 4096) -> dict[str, float]:
    """What the driver does with a shard of ``prompts`` x n answers of 128 tokens, all different: seconds for each draw.

    ``texts``: answers of a real model, of which longer ones are put together.
    """
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    asked = [Prompt(f"p{i}", f"question {i}?", "a secret") for i in range(prompts)]
    info = {"model": {"model": "made up"}, "params": SamplingParams().to_json(), "num_samples": n, "seed": 0}
    run = Run.start(folder, {**info, "statement": asdict(Statement("rouge_l"))}, asked)
    greedy, part = run.parts
    run.write_draws(greedy, [Draw(p.id, p.target, 1, 0, "stop", 5, -1.0, (0,)) for p in asked])
    said = [" ".join(rng.choice(texts, 6))[:540] for _ in range(prompts * n)]
    draws = [
        Draw(p.id, f"{said[i * n + k]} {k}", 1, k, "length", 128, -150 - rng.random(), (k,))
        for i, p in enumerate(asked)
        for k in range(n)
    ]
    all_draws = len(draws)
    answer = pickle.dumps((True, draws))
    found = {
        "unpack": least(lambda: unpacked(answer)) / all_draws,
        "pack": least(lambda: packed(print, (run.shard(part), run.params, draws))) / all_draws,
        "sent": len(answer) / all_draws,
    }
    few, many = draws[:16], draws[: all_draws // 4]
    a, b = least(lambda: run.pieces.write(part, few)), least(lambda: run.pieces.write(part, many))
    found["piece"] = (b - a) / (len(many) - len(few))
    found["sync"] = synced(folder)
    found["each_piece"] = a - len(few) * found["piece"] + found["sync"]
    found["shard"] = least(lambda: run.write_draws(part, draws)) / all_draws
    places = np.split(np.arange(n), range(100, n, 100))
    answers = [
        Draw(p.id, f"{said[k]} {k}", len(one), int(one[0]), "stop", 128, -1.0, tuple(one.tolist()))
        for p in asked
        for k, one in enumerate(places)
    ]
    few_bytes = pickle.dumps((True, answers))
    found["place"] = (
        least(lambda: unpacked(few_bytes)) + least(lambda: run.write_draws(part, answers))
    ) / all_draws - len(answers) / all_draws * (found["unpack"] + found["shard"])
    run.write_draws(part, draws)
    found["read"] = least(lambda: run.read_draws(part)) / all_draws
    values = [0.5] * all_draws
    found["scores"] = least(lambda: run.write_scores(part, "rouge_l", draws, values)) / all_draws
    for scorer in ("contains", "rouge_l"):
        (folder / "scores" / scorer / f"{part.name}.parquet").unlink(missing_ok=True)
        found[f"score_{scorer}"] = least(partial(score, run, scorer), 1) / all_draws - found["read"] - found["scores"]
    found["read_scored"] = least(lambda: list(run.read_scored(part, "rouge_l")), 1) / all_draws
    found["bound"] = (least(lambda: bound(run), 1) - found["read_scored"] * all_draws) / prompts
    tracemalloc.start()
    known = {(d.prompt_id, d.text): 0.5 for d in run.read_draws(part)}
    found["known_bytes"] = tracemalloc.get_traced_memory()[0] / len(known)
    known.clear()
    kept = Collected(asked[0])
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for draw, value in run.read_scored(part, "rouge_l"):
        kept.add(part, draw, value)
    found["collected_bytes"] = (tracemalloc.get_traced_memory()[0] - before) / all_draws
    tracemalloc.stop()
    return found


class InPieces(FakeModel):
    """A fake that gives the draws of one prompt at a time."""

    def sample_more(self, shard: Any, params: SamplingParams, left: Any) -> list[Draw]:
        """The next prompt's."""
        return [draw for draw in self.sample(shard, params) if draw.prompt_id == next(iter(left), None)]


def requests() -> dict[str, float]:
    """Requests to a store, of a piece and of a shard beside its pieces: by the differences of three runs."""
    real, counted, found = Place._ask, Counter[str](), {}

    def ask(self: Place, name: str, *args: Any, **more: Any) -> Any:
        counted[name] += 1
        return real(self, name, *args, **more)

    Place._ask = ask  # type: ignore[method-assign]
    try:
        for name, prompts, n in (("one", 2, 8192), ("pieces", 4, 4096), ("shards", 4, 8192)):
            asked = [Prompt(f"p{i}", f"question {i}?", "a secret") for i in range(prompts)]
            counted.clear()
            sample(InPieces(leak=0.3), asked, f"memory://scale-{name}", num_samples=n)
            found[name] = Counter(counted)
    finally:
        Place._ask = real  # type: ignore[method-assign]
    more = found["pieces"] - found["one"]  # two more prompts, so two more pieces of the greedy shard and of the other
    shard = sum((found["shards"] - found["one"]).values()) - 3 / 4 * sum(more.values())  # one more, of one more piece
    return {"shard": shard, "piece": sum(more.values()) / 4, **{f"piece, {k}": v / 4 for k, v in more.items()}}


class Beds:
    """A place whose workers sleep for as long as a task says, and die when their time has come."""

    def __init__(self, staff: Staff, seed: int) -> None:
        self.staff, self.rng = staff, np.random.default_rng(seed)

    def room(self) -> int:
        """All of them."""
        return self.staff.workers

    def hire(self) -> Sleeper:
        """One more, once it is loaded."""
        life = float(self.rng.exponential(self.staff.mtbf)) if self.staff.mtbf < math.inf else math.inf
        hand = Sleeper(time.monotonic() + life)
        hand.do(nap, self.staff.load)
        return hand

    def close(self) -> None:
        """Nothing is left."""


class Sleeper:
    """One of them."""

    def __init__(self, end: float) -> None:
        self.end = end

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Sleep, or die."""
        left = self.end - time.monotonic()
        if left < args[0]:
            time.sleep(max(0.0, left))
            raise Lost("it slept for ever")
        time.sleep(args[0])

    def close(self) -> None:
        """It is gone."""


def nap(seconds: float) -> None:
    """What a worker is asked: it never gets here."""


def asleep(staff: Staff, stage: Stage, seed: int) -> float:
    """The seconds that the real crew takes, with a driver that sleeps for each piece."""
    part = stage.seconds / stage.pieces

    def drawn(do: Any, shard: int) -> Any:
        yield None
        for piece in range(stage.pieces):
            do(nap, float(part[shard]))
            yield piece

    crew = Crew(Beds(staff, seed))
    start = time.monotonic()
    for _, piece in crew.spread(range(len(part)), drawn, str):
        if piece is not None and stage.driver.piece:
            time.sleep(stage.driver.piece)
    wall = time.monotonic() - start
    crew.close()
    return wall


def crews() -> list[dict[str, Any]]:
    """The real crew beside its simulation."""
    found = []
    for workers, count, pieces, each, costs, load, mtbf in (
        (1, 20, 4, 0.4, 0.0, 0.0, math.inf),
        (8, 60, 4, 1.0, 0.0, 0.5, math.inf),
        (8, 60, 4, 1.0, 0.0, 0.5, 8.0),
        (64, 300, 4, 2.0, 0.0, 0.5, math.inf),
        (64, 300, 4, 2.0, 0.0, 0.5, 30.0),
        (64, 300, 4, 2.0, 0.02, 0.5, math.inf),
        (1024, 2500, 4, 8.0, 0.0, 1.0, math.inf),
        (1024, 2500, 4, 8.0, 0.0, 1.0, 120.0),
        (1024, 2500, 4, 8.0, 0.006, 1.0, math.inf),
    ):
        staff = Staff(workers, load=load, mtbf=mtbf)
        stage = Stage(each * lognormal(np.random.default_rng(5), 0.3, count), pieces, Driver(piece=costs))
        said = [simulate(staff, [stage], seed).wall for seed in range(10)]
        found.append(
            {
                "workers": workers, "shards": count, "pieces": pieces, "seconds": each, "driver": costs, "load": load,
                "mtbf": mtbf if mtbf < math.inf else 0, "real": asleep(staff, stage, 0),
                "simulated": float(np.mean(said)), "least": min(said), "most": max(said),
            }
        )  # fmt: skip
        print(json.dumps(found[-1]), flush=True)
    return found
