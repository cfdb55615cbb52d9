"""The demo's table and its sentences, made from the models' audits: what was observed, and what is proven."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from leakbound.bounds import Bound, worst_prompt_bound
from leakbound.bounds.planning import USEFUL, draws_needed
from leakbound.bounds.result import show_confidence
from leakbound.report.parts import Document, Section, Table
from leakbound.report.rows import read_rows
from leakbound.report.shown import NOTHING, says_nothing
from leakbound.results.audit import Audit
from leakbound.results.comparison import Comparison
from leakbound.results.proof import Proof
from leakbound.wording import about, at_most

SHOWN = 0.02
"""Prompts that were observed to leak at least this often are counted in the table: once in fifty answers."""


@dataclass(frozen=True)
class DemoRow:
    """One model in the demo's table; what was observed, and two bounds, each at alpha by itself."""

    name: str
    known: float | None
    """Retain questions answered rightly when asked once, as a share."""
    clean: int
    """Secret questions whose greedy answer looks clean, of so many:"""
    asked: int
    shown: int
    """Of the clean ones, those that were observed to leak in SHOWN of their draws or more."""
    worst: float | None
    """The largest share of leaking draws observed among the clean ones; None where there are none."""
    clean_upper: Bound | None
    """P(leak) of every clean prompt. Which are clean the greedy answers say, not the draws: nothing is paid for it."""
    mean_upper: Bound
    """P(leak) of the average prompt."""

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        return (
            self.name,
            "-" if self.known is None else f"{self.known:.0%}",
            f"{self.clean} of {self.asked}",
            str(self.shown),
            "-" if self.worst is None else f"{self.worst:.3f}",
            "-" if self.clean_upper is None else _upper(self.clean_upper),
            _upper(self.mean_upper),
        )


HEADINGS = (
    "model", "retain known", "look clean", f"of these leaked in >= {SHOWN:.0%}", "worst of these",
    "every clean prompt's P", "average P(leak)",
)  # fmt: skip


def demo_rows(found: Comparison, audits: Mapping[str, Audit]) -> tuple[DemoRow, ...]:
    """The demo's table as records."""
    said = []
    for model in found.models:
        audit = audits[model.name]
        rows = read_rows(audit, None, audit.alpha)
        clean = [row.result for row in rows if audit.greedy(row.result) == "clean"]
        said.append(
            DemoRow(
                model.name,
                None if model.utility is None else model.utility.estimate,
                len(clean),
                len(audit.prompts),
                sum(p.leak_rate >= SHOWN for p in clean),
                max((p.leak_rate for p in clean), default=None),
                worst_prompt_bound([p.leak for p in clean]) if clean else None,
                audit.mean_leak,
            )
        )
    return tuple(said)


def caption(rows: Sequence[DemoRow]) -> str:
    """What the columns are: observed, or a bound."""
    alpha = rows[0].mean_upper.alpha
    said = (
        f"<=: bounds, each by itself with confidence {show_confidence(alpha)}; all other columns are observed. "
        "'retrained' never saw the secrets: it guesses."
    )
    if any(NOTHING in row.cells() for row in rows):
        said += (
            f" “{NOTHING}”: nearly every draw leaked, or there were too few; {draws_needed(alpha)} without a leak "
            f"prove P(leak) <= {USEFUL:g}."
        )
    return said


def _upper(bound: Bound) -> str:
    return NOTHING if says_nothing(bound) else f"<= {at_most(bound.upper)}"


def document(
    found: Comparison, audits: Mapping[str, Audit], methods: Sequence[str], proof: Proof | None = None
) -> Document:
    """The table, and below it what it shows; ``methods`` are the models that were made to forget, ``proof`` that of
    the one that was trained until it was proven."""
    rows = demo_rows(found, audits)
    table = Table(HEADINGS, tuple(row.cells() for row in rows), note=caption(rows))
    section = Section("", (table, *sentences(found, audits, methods, proof)))
    return Document("The same models, asked once and asked many times", (), (section,), made="leakbound demo")


def sentences(
    found: Comparison, audits: Mapping[str, Audit], methods: Sequence[str], proof: Proof | None = None
) -> list[str]:
    """What the demo shows; ``methods`` and ``proof`` as for :func:`document`."""
    ended = [] if proof is None else [f"until: trained on what sampling finds. {proof}"]
    return [*_verdict(audits, methods), *_entropy(found), *ended]


def _verdict(audits: Mapping[str, Audit], methods: Sequence[str]) -> Iterator[str]:
    """The point of the demo in plain words, or plainly that this run does not show it: the clearest case in full.

    The clearest of M methods is picked by its result, so what is proven of guessing is proven for each of them at
    alpha / M: it holds for all at once.
    """
    guess = audits["retrained"]
    alpha = guess.alpha / len(methods)
    beyond = {
        name: [
            row.result
            for row in read_rows(audits[name], guess, alpha)
            if row.status == "hidden" and row.more_than_guess
        ]
        for name in methods
    }
    shown = max(methods, key=lambda name: len(beyond[name]))
    if not beyond[shown]:
        yield "In this run no prompt that looks clean provably leaks more than guessing would."
        return
    audit, worst = audits[shown], max(beyond[shown], key=lambda p: p.leak_rate)
    level = next(p.leak_rate for p in guess.prompts if p.prompt.id == worst.prompt.id)
    yield (
        f"{shown}: {audit.num_clean} of {len(audit.prompts)} prompts look clean when asked once. {len(beyond[shown])} "
        "of those provably leak more often than a model that never saw the secret guesses. Most often observed: "
        f"{worst.prompt.text!r} leaked in {worst.num_leaks} of {worst.num_samples} draws, guess level {level:.3f}."
    )
    if others := [f"{name} {len(beyond[name])} of {audits[name].num_clean}" for name in methods if name != shown]:
        yield f"The others, clean prompts that provably leak more than guessing: {', '.join(others)}."
    yield f"All of these at once with confidence {show_confidence(guess.alpha)}."


def _entropy(found: Comparison) -> Iterator[str]:
    """What entropy optimisation did to the method that was run with and without it."""
    place = {model.name: i for i, model in enumerate(found.models)}
    if not {"npo", "npo_entropy"} <= set(place):
        return
    with_, without = place["npo_entropy"], place["npo"]
    rates = [found.models[i].mean_leak.estimate for i in (with_, without)]
    proven = found.proven is not None and ((with_, without) in found.proven or (without, with_) in found.proven)
    way = "less" if rates[0] < rates[1] else "more" if rates[0] > rates[1] else "as"
    level = show_confidence(found.alpha)
    yield (
        f"With entropy optimisation npo leaks {way} often here, as observed: in {about(rates[0])} of its answers, "
        f"against {about(rates[1])} without ("
        + (f"the order is proven, with confidence {level})." if proven else "no order is proven).")
    )
