"""What the distribution study found: curves over the seeds, steps to the retrained model's exposure, bins, verdicts.

Numbers in, frozen results out; no model is touched. "Exposure" without further words is GenEx with means of logs: the
forget set's mean over examples of log2 p_u(x) - mean over retrained models of log2 p_r(x), which is 0 for retrained
models on average. The exposure of the retrained model is reached where it first falls to 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakbound.bounds import Bound
from leakbound.bounds.gate import Floats
from leakbound.bounds.unguaranteed import Unguaranteed
from leakbound.metrics import exposure as ex
from leakbound.metrics import memorization as mem
from leakbound.results.base import Result
from leakbound.studies.distribution.config import DistributionConfig
from leakbound.studies.distribution.corpora import INSIDE, Item
from leakbound.studies.distribution.courses import Course, Curve, Finding, Reached, findings, reached
from leakbound.studies.distribution.learners import JUDGES

Flags = NDArray[np.bool_]
Numbers = Mapping[str, NDArray[Any]]
PER_TOKEN = float(np.log(0.5))
"""The event of the epsilon bound: the forget set's mean log-likelihood per token is above ln(1/2). Fixed beforehand."""

PRICES = {
    "retain_loss": "loss on retained examples, rise",
    "validation_loss": "loss on unseen examples, rise",
    "rouge_l": "ROUGE-L of retained answers, fall",
    "bleu": "BLEU of unseen sentences, fall",
    "chrf": "chrF of unseen sentences, fall",
}
"""What may be lost, in words."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one kind of example, everything but ``items`` by seed."""

    items: tuple[Item, ...]
    """The kind's pool."""
    member: Flags
    """Which items the seed's original was trained on, (seeds, items)."""
    courses: Sequence[Numbers]
    """The unlearning of the originals: ``measure``'s numbers by step, the candidates before and after."""
    retrained: Sequence[Numbers]
    """The retrained models on the whole pool."""
    reproduced: Sequence[Flags]
    """Whether an original said each of its items right, (epochs, forget set)."""


@dataclass(frozen=True)
class KindFound:
    """One kind of example."""

    name: str
    steps: tuple[int, ...]
    curves: Mapping[str, Curve]
    """exposure, genex, relex_original, relex_heldout (bits), retain_loss, validation_loss, and the qualities."""
    reached: Reached
    bins: Mapping[str, tuple[Curve, Reached]]
    """low and high memorization and difficulty: exposure over the steps, and when it reached 0."""
    ids: tuple[str, ...]
    memorization: tuple[float, ...]
    memorization_lower: tuple[float, ...]
    memorization_upper: tuple[float, ...]
    difficulty: tuple[float, ...]
    learning_speed: tuple[float, ...]
    """Of the items of the pool: nats per token, nats per token, epochs (inf: not reproduced)."""
    start: Unguaranteed
    end: Unguaranteed
    """GenEx (likelihood mean) before the first and after the last step, with intervals over models."""
    epsilon_start: Bound
    epsilon_end: Bound
    candidates: Mapping[str, float | None]
    """Carlini's exposure, mean over examples and seeds: original, unlearned, retrained; None without candidates."""
    candidates_limit: float | None
    """The largest value that it can have with so many candidates, on average."""
    tokens: float
    """Tokens of an answer, on average."""


@dataclass(frozen=True)
class Study(Result, file="study.json", command="leakbound study distribution"):
    """Everything that a report needs."""

    config: DistributionConfig
    kinds: tuple[KindFound, ...]
    findings: tuple[Finding, ...]
    made: int
    found: int

    def __str__(self) -> str:
        c = self.config
        steps = (f"{kind.name} {kind.reached.steps_median.estimate:.1f}" for kind in self.kinds)
        return (
            f"Steps of {c.method} until {c.forget_size} examples are as if never seen, median of {c.seeds} seeds: "
            f"{', '.join(steps)}"
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each curve's value of each kind, seed and step."""
        for kind in self.kinds:
            for name, curve in kind.curves.items():
                for seed, values in enumerate(curve.values):
                    for step, value in zip(kind.steps, values, strict=True):
                        yield {"kind": kind.name, "seed": seed, "step": step, "measure": name, "value": value}

    @property
    def measures(self) -> tuple[str, ...]:
        """What may be lost."""
        return measures(self.config.task)


def find(config: DistributionConfig, measured: Mapping[str, Measured], *, made: int = 0, found: int = 0) -> Study:
    """What the numbers of each kind say; ``made`` and ``found`` count the artefacts behind them."""
    kinds = tuple(_kind(config, name, numbers) for name, numbers in measured.items())
    courses = {kind.name: Course(kind.steps, kind.curves["retain_loss"], kind.reached) for kind in kinds}
    return Study(config, kinds, findings(courses.pop(INSIDE), courses, alpha=config.alpha), made, found)


def measures(task: str) -> tuple[str, ...]:
    """What may be lost: two losses, whose rise is a loss, and the qualities, whose fall is one."""
    return ("retain_loss", "validation_loss", *JUDGES[task])


def _kind(config: DistributionConfig, name: str, measured: Measured) -> KindFound:
    alpha, names = config.alpha, measures(config.task)
    courses, retrained, member = measured.courses, measured.retrained, measured.member
    never = np.array([r["forget_logps"] for r in retrained])
    lengths = retrained[0]["forget_tokens"].astype(float)
    steps = courses[0]["steps"]
    each = [(c["forget_logps"] - never[:, m].mean(axis=0)) / ex.LN2 for c, m in zip(courses, member, strict=True)]
    level = np.array([bits.mean(axis=1) for bits in each])
    values = {
        "exposure": level,
        "genex": np.array(
            [(c["forget_logps"] - ex.log_mean(never[:, m])).mean(axis=1) / ex.LN2
             for c, m in zip(courses, member, strict=True)]
        ),
        "relex_original": np.array(
            [ex.original_exposure(c["forget_logps"], c["forget_logps"][0]).mean(axis=1) for c in courses]
        ),
        "relex_heldout": np.array([_heldout(c, alpha) for c in courses]),
        **{n: np.array([c[n] for c in courses]) for n in names},
    }  # fmt: skip
    said = np.array(
        [_scatter(c["forget_logps"][0], c["heldout_logps"][0], m) for c, m in zip(courses, member, strict=True)]
    )
    logps = np.concatenate([said, never]) / lengths
    inside = np.concatenate([member, np.zeros_like(member)])
    low, high = mem.memorization_interval(logps, inside, alpha=alpha)
    speeds = np.full(member.shape, np.inf)
    speeds[member] = np.concatenate([mem.learning_speed(flags) for flags in measured.reproduced])
    ends = [np.array([c["forget_logps"][i].mean() / c["forget_tokens"][i].mean() for c in courses]) for i in (0, -1)]
    own = np.array([(r["forget_logps"][m].sum() / lengths[m].sum()) for r, m in zip(retrained, member, strict=True)])
    bounds = [ex.epsilon_lower_bound(end, own, threshold=PER_TOKEN, alpha=alpha) for end in ends]
    first, last = (_over_models([c["forget_logps"][i] for c in courses], never, member, alpha) for i in (0, -1))
    candidates, limit = _carlini(measured, alpha)
    return KindFound(
        name,
        tuple(int(s) for s in steps),
        {n: Curve.of(v, alpha) for n, v in values.items()},
        reached(steps, level, {n: values[n] for n in names}, alpha),
        _bins(steps, each, logps, inside, member, alpha),
        tuple(item.id for item in measured.items),
        tuple(mem.counterfactual_memorization(logps, inside).tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        tuple(mem.difficulty(-logps, inside).tolist()),
        tuple(mem.median_speed(speeds, member).tolist()),
        first,
        last,
        bounds[0],
        bounds[1],
        candidates,
        limit,
        float(lengths.mean()),
    )


def _scatter(forget: Floats, heldout: Floats, member: Flags) -> Floats:
    """Log-likelihoods of the whole pool in its order: the forget set's and the other half's (first in heldout)."""
    whole = np.empty(len(member))
    whole[member] = forget
    whole[~member] = heldout[: int((~member).sum())]
    return whole


def _heldout(course: Numbers, alpha: float) -> list[float]:
    rows = zip(course["forget_logps"], course["heldout_logps"], strict=True)
    return [
        float(np.mean([ex.heldout_exposure(float(x), held, alpha=alpha).estimate for x in forget]))
        for forget, held in rows
    ]


def _bins(
    steps: Floats, each: list[Floats], logps: Floats, inside: Flags, member: Flags, alpha: float
) -> dict[str, tuple[Curve, Reached]]:
    """Exposure of the less and the more memorized (difficult) half of each forget set.

    The halves of a seed come from the other seeds' models: a model's own noise does not decide its bin.
    """
    rows: dict[str, list[Floats]] = {}
    seeds = len(member)
    for seed in range(seeds):
        others = [i for i in range(2 * seeds) if i % seeds != seed]
        chosen = member[seed]
        sides = (inside[others][:, chosen], logps[others][:, chosen])
        scores = {"difficulty": mem.difficulty(-sides[1], sides[0])}
        count = sides[0].sum(axis=0)
        known = count > 0
        score = np.full(int(chosen.sum()), -np.inf)
        score[known] = mem.counterfactual_memorization(sides[1][:, known], sides[0][:, known])
        scores["memorization"] = score
        for name in ("memorization", "difficulty"):
            upper = mem.upper_half(scores[name])
            for part, flags in (("low", ~upper), ("high", upper)):
                rows.setdefault(f"{part} {name}", []).append(each[seed][:, flags].mean(axis=1))
    return {
        name: (Curve.of(np.array(values), alpha), reached(steps, np.array(values), {}, alpha))
        for name, values in rows.items()
    }


def _over_models(said: Sequence[Floats], never: Floats, member: Flags, alpha: float) -> Unguaranteed:
    """GenEx over the originals that had each example and all retrained models; bootstrap over seeds.

    Each example has its own originals, about half of the seeds: a resample draws seeds, and an example that none of the
    drawn ones had is left out of that resample.
    """
    rng = np.random.default_rng(0)
    seeds = len(member)
    table = np.full(member.shape, np.nan)
    table[member] = np.concatenate(said)
    draws = [
        _genex(table[rng.integers(seeds, size=seeds)], never[rng.integers(seeds, size=seeds)]) for _ in range(1000)
    ]
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    name, method = "GenEx in bits (likelihood mean)", "bootstrap over models, 1000 resamples"
    return Unguaranteed(name, _genex(table, never), float(low), float(high), alpha, "both", 2 * seeds, method)


def _genex(table: Floats, never: Floats) -> float:
    seen = ~np.isnan(table).all(axis=0)
    rows = np.where(np.isnan(table[:, seen]), -np.inf, table[:, seen])
    top = rows.max(axis=0)
    count = np.isfinite(rows).sum(axis=0)
    mean = top + np.log(np.exp(rows - top).sum(axis=0) / count)
    return float(((mean - ex.log_mean(never[:, seen])) / ex.LN2).mean())


def _carlini(measured: Measured, alpha: float) -> tuple[dict[str, float | None], float | None]:
    """Mean exposure among candidates of the original, the unlearned and the retrained models, and its largest value."""
    items = measured.items
    if not all(item.candidates for item in items):
        return {"original": None, "unlearned": None, "retrained": None}, None

    def of(x: float, row: Floats, i: int) -> float:
        others = row[: len(items[i].candidates)]
        if items[i].exhaustive:
            return ex.exposure(x, others)
        return ex.sampled_exposure(x, others, space=items[i].space, alpha=alpha).estimate

    found: dict[str, list[float]] = {"original": [], "unlearned": [], "retrained": []}
    for course, other, m in zip(measured.courses, measured.retrained, measured.member, strict=True):
        for j, i in enumerate(np.flatnonzero(m).tolist()):
            found["original"].append(of(course["forget_logps"][0][j], course["candidates"][0][j], i))
            found["unlearned"].append(of(course["forget_logps"][-1][j], course["candidates"][-1][j], i))
            found["retrained"].append(of(other["forget_logps"][i], other["candidates"][i], i))
    most = [
        np.log2(len(x.candidates) + 1) if x.exhaustive else min(np.log2(len(x.candidates)), np.log2(x.space))
        for x in items
    ]
    return {n: float(np.mean(v)) for n, v in found.items()}, float(np.mean(most))
