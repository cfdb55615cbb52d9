"""The tables of the distribution study."""

import math

from leakbound.bounds.result import show_confidence
from leakbound.metrics.exposure import largest_epsilon
from leakbound.report.parts import Table
from leakbound.studies.distribution.corpora import MEANINGS
from leakbound.studies.distribution.findings import PRICES, KindFound, Study
from leakbound.studies.distribution.seeds import Median

CLAIMS = {
    "steps": ("more steps", "examples outside the distribution need more steps"),
    "trade-off": ("costs less when done", "once unlearned, they have cost less"),
    "decay": (
        "costs less at equal steps",
        "after as many steps as the in-distribution set needs, they have cost less: it decays faster",
    ),
}
"""The paper's sentences, in short and in full."""


def tables(study: Study) -> tuple[Table, ...]:
    """The tables."""
    return _price(study), _claims(study), _halves(study), _measures(study), _examples(study)


def _price(study: Study) -> Table:
    one = study.kinds[0].reached.steps_median
    return Table(
        title="Until the retrained models' exposure is reached",
        note=f"Medians over the seeds; in brackets the interval of order statistics, exact with confidence "
        f"{_sure(one)} for each number alone, given the retrained models and taking the seeds as draws of "
        "one law. What was lost is of the seeds that got there; where these are fewer, their interval has the "
        "confidence that stands behind it. Losses in nats per token.",
        head=("kind", "tokens", "exposure at first, bits", "steps", "reached", *(_short(n) for n in study.measures)),
        rows=tuple(
            (
                kind.name,
                f"{kind.tokens:.1f}",
                f"{kind.curves['exposure'].centre[0]:.1f}",
                _interval(kind.reached.steps_median, 1),
                f"{kind.reached.count} of {len(kind.reached.steps)}",
                *(
                    _interval(kind.reached.lost_median[n], 2 if n in ("bleu", "chrf") else 3, one)
                    for n in study.measures
                ),
            )
            for kind in study.kinds
        ),
    )


def _claims(study: Study) -> Table:
    one = study.kinds[0].reached.steps_median
    return Table(
        title="The paper's findings, checked",
        note="Difference to the in-distribution set of the same seed: steps more, loss on retained examples less (nats "
        f"per token). In brackets: as above, with confidence {_sure(one)} each where no other is given. p: "
        "exact one-sided sign test that a seed's difference is positive no more often than not, over all seeds: one in "
        "which a set did not get there counts for neither; adjusted by Holm over all rows.",
        head=("finding", "kind", "median difference", "seeds in favour", "p", "adjusted", "verdict"),
        rows=tuple(
            (
                CLAIMS[f.claim][0],
                f.kind,
                _interval(f.estimate, 1 if f.claim == "steps" else 3, one),
                f"{f.in_favour} of {len(f.differences)}",
                f"{f.p_value:.4f}",
                f"{f.adjusted:.4f}",
                f.verdict(study.config.alpha),
            )
            for f in study.findings
        ),
    )


def _halves(study: Study) -> Table:
    return Table(
        title="By memorization and difficulty",
        note="Each half of a forget set on its own; medians over the seeds with exact intervals, as above.",
        head=("kind", "half", "exposure at first, bits", "steps to the retrained models' exposure", "reached"),
        rows=tuple(
            (
                kind.name,
                name,
                f"{curve.centre[0]:.1f}",
                _interval(found.steps_median, 1),
                f"{found.count} of {len(found.steps)}",
            )
            for kind in study.kinds
            for name, (curve, found) in kind.bins.items()
        ),
    )


def _measures(study: Study) -> Table:
    def pair(kind: KindFound, name: str) -> str:
        centre = kind.curves[name].centre
        return f"{centre[0]:.1f} → {centre[-1]:.1f}"

    def candidates(kind: KindFound) -> str:
        c = kind.candidates
        if c["original"] is None or kind.candidates_limit is None:
            return "–"
        return f"{c['original']:.1f} → {c['unlearned']:.1f} ({c['retrained']:.1f}; ≤ {kind.candidates_limit:.1f})"

    def genex(kind: KindFound) -> str:
        first, last = (
            f"{x.estimate:.1f} [{_number(x.lower, 1)}, {_number(x.upper, 1)}]" for x in (kind.start, kind.end)
        )
        return f"{first} → {last}"

    return Table(
        title="All measures of exposure, original → after the last step",
        note="Bits; means over the examples. GenEx with likelihood means has a bootstrap interval over the models, "
        "without a guarantee. Among candidates: in brackets the retrained models' value and the largest possible "
        "one. Epsilon: an unlearner whose models cannot be told from retrained ones has 0 nats; each bound is "
        f"proven by itself with confidence {show_confidence(study.config.alpha)} (nothing: 0 nats), seeds taken as "
        "draws of one law, from how many models still give the forget set more than half a probability per token. With "
        f"{study.config.seeds} models of each sort no more than {_most(study):.2f} nats could be proven.",
        head=("kind", "GenEx, likelihood mean", "RelEx a", "RelEx b", "among candidates", "epsilon"),
        rows=tuple(
            (
                kind.name,
                genex(kind),
                pair(kind, "relex_original"),
                pair(kind, "relex_heldout"),
                candidates(kind),
                f"{_proven(kind.epsilon_start.lower)} → {_proven(kind.epsilon_end.lower)}",
            )
            for kind in study.kinds
        ),
    )


def _examples(study: Study) -> Table:
    def mean(values: tuple[float, ...]) -> str:
        return f"{math.fsum(values) / len(values):.2f}"

    def speed(values: tuple[float, ...]) -> str:
        never = sum(math.isinf(v) for v in values)
        known = sorted(values)[(len(values) - 1) // 2]
        return f"{'never' if math.isinf(known) else f'epoch {known:g}'} ({never} of {len(values)} never)"

    return Table(
        title="How the examples were learned",
        note="Means over the examples of each kind's pool, nats per token; learning speed is the median.",
        head=("kind", "what it is", "memorization", "difficulty", "learning speed"),
        rows=tuple(
            (kind.name, MEANINGS[kind.name], mean(kind.memorization), mean(kind.difficulty), speed(kind.learning_speed))
            for kind in study.kinds
        ),
        left=(0, 1),
    )


def _most(study: Study) -> float:
    seeds = study.config.seeds
    return largest_epsilon(seeds, seeds, alpha=study.config.alpha)


def _interval(found: Median | None, digits: int, beside: Median | None = None) -> str:
    """A median with its interval, and with its confidence where that is not the one of ``beside``."""
    if found is None:
        return "–"
    low, middle, high = (_number(x, digits) for x in (found.lower, found.estimate, found.upper))
    own = beside is not None and found.confidence != beside.confidence
    return f"{middle} [{low}, {high}]" + (f", confidence {_sure(found)}" if own else "")


def _sure(found: Median) -> str:
    """Its confidence, never more than it is."""
    return show_confidence(round(1 - found.confidence, 12))


def _number(value: float, digits: int) -> str:
    return f"{'-' if value < 0 else ''}∞" if math.isinf(value) else f"{value:.{digits}f}"


def _proven(nats: float) -> str:
    return f"≥ {math.floor(nats * 100) / 100:.2f}" if nats >= 0.01 else "nothing"


def _short(name: str) -> str:
    return {"retain_loss": "retained loss", "validation_loss": "unseen loss"}.get(name, PRICES[name].split(" of ")[0])
