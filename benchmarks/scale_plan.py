"""The audit that does not fit one machine, as shards, seconds and the driver's work (docs/scale.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scale_cost import H100, LLAMA_8B, Law, draw_seconds, passes
from scale_crew import Driver, Staff, Stage, lognormal

PROMPTS, DRAWS, TOKENS, HEAD = 10_000, 4096, 128, 64
LOAD, MTBF, SLOW = 90.0, 24 * 3600.0, 0.1
LATENCY, LISTED = 0.05, 1000
"""Seconds of a request to a store, and how many names one request lists."""
PIECE = 10.0
"""Nominal seconds of a piece: HFModel.sample_more."""
LAWS = {
    "low": (Law.invented(3.0, 16, 1.0), "demo original"),
    "medium": (Law.invented(30.0, 48, 0.5), "demo npo"),
    "high": (Law.invented(150.0, 128, 0.2), "SmolLM2"),
}
"""Invented laws of answers, and the model whose prompts differ as theirs are taken to."""
WORKERS = (1, 64, 1024)
MORE_ROWS = 512


def usual_rows() -> tuple[float, float, float]:
    """Rows of a pass, and nominal seconds of a row and of a pass, as models/hf/budget.py has them for an 8B model."""
    from leakbound.models.hf import budget

    model = budget.Budget.__new__(budget.Budget)
    speed, law, layer = budget.FAST
    model.of_token, model.of_row = 2 * LLAMA_8B.parameters / speed, law * LLAMA_8B.vocabulary
    model.of_pass, model.top_rows = layer * LLAMA_8B.layers, budget.GPU_ROWS
    return model.most_rows(TOKENS), model.of_token + model.of_row, model.of_pass


@dataclass(frozen=True)
class Plan:
    """How one of the laws is drawn; ``costs``: what the driver's work was measured to take."""

    name: str
    costs: dict[str, float]
    spread: float
    rows: float
    nominal: tuple[float, float]
    mended: bool = False
    store: bool = False
    draws: int = DRAWS

    @property
    def law(self) -> Law:
        """What answers are like."""
        return LAWS[self.name][0]

    @property
    def group(self) -> int:
        """Prompts of a shard."""
        return max(1, 16_384 // self.draws)

    @property
    def shards(self) -> int:
        """How many."""
        return math.ceil(PROMPTS / self.group)

    def seconds(self, n: int, prompts: int) -> float:
        """A worker's for a shard."""
        return draw_seconds(H100, LLAMA_8B, self.law, n, prompts, HEAD, self.rows)

    @cached_property
    def work(self) -> float:
        """Seconds of all workers for the draws."""
        return self.shards * self.seconds(self.draws, self.group)

    def stage(self, n: int, prompts: int, rng: np.random.Generator) -> Stage:
        """The shards of ``prompts`` with n draws each."""
        levels, seconds = self.law.levels(n), self.seconds(n, prompts)
        of_row, of_pass = self.nominal
        nominal = passes(levels, prompts, self.rows) * of_pass + prompts * levels.sum() * of_row
        pieces = max(1, round(seconds / 60 if self.mended else nominal / PIECE))
        c, distinct = self.costs, prompts * self.law.distinct(n)
        places, part = c["place"] * prompts * n, distinct / pieces
        write = c["piece"] if pieces > 1 else c["shard"]
        driver = Driver(
            piece=c["each_piece"] + (c["unpack"] + write) * part + places / pieces,
            shard=c["shard"] * distinct + places,
            file=0.0 if self.mended else c["file"],
            known=0.0 if self.mended else c["pack"] * part,
        )
        if self.store:
            driver = replace(
                driver,
                piece=driver.piece + (c["requests_piece"] - 1) * LATENCY,  # the last one removes it, with the shard
                shard=driver.shard + (c["requests_shard"] + pieces) * LATENCY,
                file=0.0 if self.mended else driver.file + LATENCY / LISTED,
            )
        count = math.ceil(PROMPTS / prompts)
        return Stage(seconds * lognormal(rng, self.spread, count), pieces, driver)

    def rounds(self, sizes: Sequence[int]) -> list[Stage]:
        """The greedy answers, then the draws of each round."""
        rng = np.random.default_rng(7)
        return [self.stage(1, 256, rng), *(self.stage(n, max(1, 16_384 // n), rng) for n in sizes)]

    @cached_property
    def stages(self) -> list[Stage]:
        """The greedy answers, then the draws."""
        return self.rounds([self.draws])

    def taken(self, workers: int) -> dict[str, float]:
        """Seconds of the driver for all draws, by what they go into."""
        *_, stage = self.stages
        d, files = stage.driver, min(workers, self.shards) * (stage.pieces - 1) / 2
        of_pieces = self.shards * stage.pieces
        return {
            "writes": of_pieces * d.piece + self.shards * d.shard * (stage.pieces > 1),
            "known": of_pieces * d.known * (stage.pieces - 1) / 2,
            "files": of_pieces * d.file * files,
        }

    def most(self, *what: str) -> int:
        """The workers from which these things of the driver take longer than the workers' draws."""
        return next(w for w in range(1, 10**6) if sum(self.taken(w)[x] for x in what) >= self.work / w)

    def staff(self, workers: int) -> Staff:
        """So many workers."""
        return Staff(workers, LOAD, MTBF, SLOW)
