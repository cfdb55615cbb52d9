"""The shards of a run: which prompts and which of their draws each one holds, fixed before the first draw."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leakbound.errors import InputError

DRAWS_PER_SHARD = 16_384
"""A sample shard holds about this many draws: several prompts of few draws, or a part of one prompt's many."""
NUM_PILOT = 32
"""Draws that measure a prompt's entropy and choose its engine: numbered from -32 on, and never judged."""
PROMPTS_PER_SEARCH = 16
"""Prompts in a shard of completions that are drawn without replacement, or only counted; fewer of many draws."""
COUNTED_PER_SHARD = 2**24
"""A shard of counted draws holds about this many: all of each of its prompts."""
PROMPTS_PER_FACTS = 16
"""Prompts in one file of what a certification computed."""


@dataclass(frozen=True)
class Part:
    """One shard of the layout: the file's name, the prompts [start, stop), and the draws of each."""

    name: str
    start: int
    stop: int
    first: int
    num_samples: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(greedy|pilot|distinct|counted|sample)(-\d+)+", self.name):  # it becomes a file's name
            raise InputError(f"layout has a part {self.name!r}: that is no name of a shard")

    @property
    def kind(self) -> str:
        """``greedy``; ``pilot``, not judged; ``sample``, independent draws; ``counted``, such draws of which only the
        counts are known; ``distinct``, drawn without replacement."""
        return self.name.split("-")[0]

    @property
    def num_draws(self) -> int:
        """How many draws it holds where all of its prompts are drawn."""
        return (self.stop - self.start) * self.num_samples

    @property
    def greedy(self) -> bool:
        """Whether the part holds greedy completions, one for each prompt."""
        return self.kind == "greedy"

    @property
    def sampled(self) -> bool:
        """Whether its completions are what an audit judges a prompt by."""
        return self.kind in ("sample", "counted", "distinct")

    @property
    def judged(self) -> bool:
        """Whether its completions are scored."""
        return self.kind != "pilot"


def plan_layout(
    num_prompts: int,
    num_samples: int,
    rounds: Sequence[int] = (),
    *,
    draws_per_shard: int = 0,
    engine: str = "iid",
    most_distinct: int = 0,
    greedy: bool = True,
) -> list[Part]:
    """The shards of a run: greedy ones, then sample ones of about DRAWS_PER_SHARD draws; whole prompts where they fit.

    It depends on the numbers only, so that an interrupted run finds its own layout again. ``rounds`` are the draws so
    far at the end of each round of a run that may stop early: each round has shards of its own. ``draws_per_shard``:
    the most draws of one prompt in a shard, 0 for the usual. With ``engine`` "auto" there are pilot shards too, and a
    prompt's draws are either in the sample shards or in the distinct ones. Without ``greedy`` there are no greedy
    shards: draws made elsewhere, whose greedy answers nobody has.
    """
    parts: list[Part] = []

    def all_prompts(kind: str, group: int, first: int, size: int) -> None:
        for i, start in enumerate(range(0, num_prompts, group)):
            parts.append(Part(f"{kind}-{i:05d}", start, min(start + group, num_prompts), first, size))

    if greedy:
        all_prompts("greedy", 256, 0, 1)
    if engine == "auto":
        all_prompts("pilot", 256, -NUM_PILOT, NUM_PILOT)
    if engine == "counted":
        group = min(PROMPTS_PER_SEARCH, max(1, COUNTED_PER_SHARD // num_samples))
        all_prompts(engine, group, 0, num_samples)
        return parts
    if engine != "iid":
        all_prompts("distinct", PROMPTS_PER_SEARCH, 0, most_distinct)
    if engine == "without-replacement":
        return parts
    for r, end in enumerate(rounds or (num_samples,)):
        begin = rounds[r - 1] if r else 0
        group = max(1, DRAWS_PER_SHARD // (end - begin))
        step = min(end - begin, draws_per_shard or 4 * DRAWS_PER_SHARD)
        prefix = f"sample-{r:03d}" if rounds else "sample"
        spans = [(start, first) for start in range(0, num_prompts, group) for first in range(begin, end, step)]
        for i, (start, first) in enumerate(spans):
            stop = min(start + group, num_prompts)
            parts.append(Part(f"{prefix}-{i:05d}", start, stop, first, min(step, end - first)))
    return parts


def sizes(info: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says of the layout where it is not the usual one: rule, engine, draws_per_shard, greedy."""
    engine = info.get("engine")
    found = {name: info[name] for name in ("draws_per_shard", "greedy") if name in info}
    if info.get("rule"):
        found["rounds"] = info["rule"]["sizes"]
    if isinstance(engine, Mapping) and engine["name"] != "iid":
        found |= {"engine": engine["name"], "most_distinct": engine.get("most_distinct", 0)}
    return found
