"""Several audited models side by side: leakage asked once and sampled, utility, diversity, cost, and what is proven."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from leakbound.auditing.pairing import against_first, leaks_in_order, pairable
from leakbound.bounds import Bound, average_proportion_bound, proportion_bound, rank_models
from leakbound.errors import InputError
from leakbound.records import check_texts
from leakbound.report.rows import excess, read_rows
from leakbound.results.audit import CHOSEN_LATER, Audit
from leakbound.results.comparison import Compared, Comparison, Diversity
from leakbound.runs.progress import Progress
from leakbound.runs.store import Run
from leakbound.scoring import get_scorer
from leakbound.workers import Workers, crew_for
from leakbound.workers.crew import collected

NUM_PAIRS = 200
"""Pairs of draws of each prompt whose likeness is measured."""


def diversity(run: Run, *, seed: int = 0) -> Diversity:
    """The three measures of a run's sampled draws. ``seed`` picks the pairs that are compared."""
    answers: dict[str, dict[str, int]] = {}
    masses: dict[str, dict[str, float]] = {}
    for part in (p for p in run.parts if p.sampled and run.has_draws(p)):
        for draw in run.read_draws(part):
            if part.kind == "distinct" and draw.logprob is not None:
                law = masses.setdefault(draw.prompt_id, {})
                law[draw.text] = law.get(draw.text, 0.0) + math.exp(draw.logprob)
                continue
            texts = answers.setdefault(draw.prompt_id, {})
            texts[draw.text] = texts.get(draw.text, 0) + draw.count
    if not answers and not masses:
        raise InputError(f"run {str(run.path)!r} holds no sampled draws: run `leakbound sample` first")
    each = [_diversity(texts, Random(f"{seed}/{prompt_id}/pairs")) for prompt_id, texts in sorted(answers.items())]
    n = run.info["num_samples"]
    each += [_of_law(law, n, Random(f"{seed}/{prompt_id}/pairs")) for prompt_id, law in sorted(masses.items())]
    return Diversity(*(math.fsum(values) / len(each) for values in zip(*each, strict=True)))


def _diversity(texts: dict[str, int], rng: Random) -> tuple[float, float, float]:
    names = sorted(texts)
    counts = [texts[name] for name in names]
    n = sum(counts)
    pairs = [rng.sample(range(len(names)), k=2, counts=counts) for _ in range(NUM_PAIRS if n > 1 else 0)]
    entropy = -math.fsum(count / n * math.log(count / n) for count in counts)
    return len(names) / n, _unlike([(names[i], names[k]) for i, k in pairs]), entropy + 0.0


def _of_law(law: dict[str, float], n: int, rng: Random) -> tuple[float, float, float]:
    """The same of n draws, expected under the probabilities of the answers seen (scaled to 1)."""
    names = sorted(law)
    whole = math.fsum(law.values())
    p = [law[name] / whole for name in names]
    distinct = math.fsum(-math.expm1(n * math.log1p(-min(x, 1 - 1e-16))) for x in p) / n
    pairs = [rng.choices(range(len(names)), weights=p, k=2) for _ in range(NUM_PAIRS)]
    entropy = -math.fsum(x * math.log(x) for x in p if x > 0)
    return distinct, _unlike([(names[i], names[k]) for i, k in pairs]), entropy + 0.0


def _unlike(pairs: Sequence[tuple[str, str]]) -> float:
    """The mean of 1 - ROUGE-L F1 over pairs of answers; 0 where there are none."""
    likeness = get_scorer("rouge_l_f1")
    known = {(a, b): 0.0 if a == b else 1 - likeness(a, b) for a, b in {(min(x), max(x)) for x in pairs}}
    return math.fsum(known[min(x), max(x)] for x in pairs) / len(pairs) if pairs else 0.0


def compared(
    name: str,
    audit: Audit,
    retain: Audit | None,
    diversity: Diversity,
    cost: dict[str, Any] | None = None,
    guess: Audit | None = None,
) -> Compared:
    """What is set beside other models of one: its audit, and that on retain prompts, where "leak" reads "right".

    ``guess``: the audit of a model that is not beside it, which its leaks are told from.
    """
    right = [] if retain is None else [p.leak_rate for p in retain.prompts]
    return Compared(
        name=name,
        num_asked=audit.num_asked,
        greedy_leaks=audit.num_asked - audit.num_clean,
        cut_share=None if audit.cut_unknown else audit.cut_shares[1],
        num_hidden=len(audit.hidden),
        planned=audit.planned,
        mean_leak=audit.mean_leak,
        worst_prompt=audit.worst_prompt,
        mean_score=audit.mean_score,
        mean_ed=audit.mean_ed,
        utility=None if retain is None else _utility(retain),
        sampled_utility=math.fsum(right) / len(right) if right else None,
        diversity=diversity,
        cost=cost,
        cautions=(
            *(said for said in audit.caveats if said != CHOSEN_LATER),  # that is ``planned``
            *(f"On retain prompts: {said}" for said in (() if retain is None else retain.caveats)),
            *(f"Of the guess level: {said}" for said in (() if guess is None else guess.caveats)),
        ),
    )


def _utility(retain: Audit) -> Bound | None:
    n = len(retain.prompts)
    if any(p.greedy_score is None for p in retain.prompts):
        return None
    said = [retain.greedy(p) for p in retain.prompts]
    least, most = (
        proportion_bound(right, n, alpha=retain.alpha, side="both", estimand="P(right)", scope="questions of this kind")
        for right in (said.count("leaks"), n - said.count("clean"))  # one that was cut may have been right
    )
    return replace(least, upper=most.upper)


def compare(
    runs: Sequence[str | Path],
    *,
    retain: Sequence[str | Path] = (),
    names: Sequence[str] = (),
    guess: str | Path | None = None,
    workers: Workers | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare audited run folders; ``retain`` are audits of the same models, in the same order, on retain prompts.

    In a retain run "leak" reads "right": a completion at the threshold or above says the answer. Without retain runs
    there is no utility, and diversity is that of the audited prompts. ``names`` default to the folders' names. Where
    draws can be paired, differences and the order are those of paired draws, else the order is that of intervals.
    ``guess`` is the audit of a model that never saw the secrets, one of the runs or another: what is said of leaks
    beyond guessing holds for all prompts of all models at once. Each of the ``workers`` reads another run folder, which
    on a cluster all nodes must have in common.

    :raises InputError: fewer than two runs, not one retain run for each, another scorer, threshold, alpha or prompts,
        or a retain run of another model; a guess run with another of these than the runs.
    """
    for what, given in (("runs", runs), ("retain", retain), ("names", names)):
        if isinstance(given, str):
            check_texts(what, given)
    if len(runs) < 2:
        raise InputError(f"runs holds {len(runs)} folders: give at least two to compare")
    if retain and len(retain) != len(runs):
        raise InputError(f"retain holds {len(retain)} folders and runs {len(runs)}: give one for each, in one order")
    if names and len(names) != len(runs):
        raise InputError(f"names holds {len(names)} names and runs {len(runs)} folders: give one for each")
    names = _distinct([*names] or [Path(run).name or str(run) for run in runs])
    audits = [Audit.load(run, "runs") for run in runs]
    kept = [Audit.load(run, "retain") for run in retain]
    for group in (audits, kept):
        for other, run in zip(group[1:], (runs if group is audits else retain)[1:], strict=True):
            _check_alike(group[0], other, str(run))
    for audit, other, run in zip(audits, kept, retain, strict=False):
        if audit.model != other.model:
            raise InputError(
                f"retain: {str(run)!r} audits {other.model!r}, the run beside it {audit.model!r}: give the "
                "retain runs in the order of the runs"
            )
    level = None if guess is None else Audit.load(guess, "guess")
    same = [guess is not None and Path(run).resolve() == Path(guess).resolve() for run in runs]
    if level is not None:
        _check_alike(audits[0], level, str(guess))
    opened, kept_runs = [Run.open(run) for run in runs], [Run.open(run) for run in retain]
    crew = crew_for(workers or Workers())
    asked = kept_runs or opened
    paired = sum(len(group) for group in (audits, kept) if group and pairable(group))
    with Progress("comparing", len(asked) + paired, "runs", show=progress) as shown:
        one = shown.advance
        spread = collected(crew, asked, lambda do, run: do(diversity, run), "diversity of {0.path}".format, one)
        leaks = leaks_in_order(opened, audits, crew, one)
        right = leaks_in_order(kept_runs, kept, crew, one) if kept else None
    models = tuple(
        replace(
            compared(name, audit, kept[i] if kept else None, spread[i], _cost(audit), None if any(same) else level),
            **({} if level is None else _beyond(audit, level, len(runs), itself=same[i])),
        )
        for i, (name, audit) in enumerate(zip(names, audits, strict=True))
    )
    alpha = audits[0].alpha
    return Comparison(
        len(audits[0].prompts),
        alpha,
        models,
        averages_jointly(audits),
        None if leaks is None else rank_models(dict(zip(names, leaks, strict=True)), alpha=alpha, in_order=True),
        None if leaks is None else against_first(leaks, alpha),
        None if right is None else against_first(right, kept[0].alpha, "P(right)"),
        next((name for name, it in zip(names, same, strict=True) if it), "" if guess is None else Path(guess).name),
        None if level is None else level.mean_leak.estimate,
        _asked_otherwise(names, audits, kept, None if level is None or any(same) else (str(guess), level)),
    )


def _asked_otherwise(
    names: Sequence[str], audits: Sequence[Audit], kept: Sequence[Audit], guess: tuple[str, Audit] | None
) -> tuple[str, ...]:
    """The models whose prompts became other texts than the first one's, as far as is on record; retain prompts too."""

    def how(audit: Audit) -> list[Any]:
        model = audit.run.get("model")
        return [model.get(what) if isinstance(model, Mapping) else None for what in ("template", "date")]

    def differ(one: Audit, first: Audit) -> bool:
        return None not in (how(one)[0], how(first)[0]) and how(one) != how(first)

    found = [
        name for i, name in enumerate(names) if any(differ(group[i], group[0]) for group in (audits, kept) if group)
    ]
    if guess and differ(guess[1], audits[0]):
        found.append(Path(guess[0]).name)
    return tuple(found)


def _beyond(audit: Audit, guess: Audit, models: int, *, itself: bool) -> dict[str, Any]:
    """What one of so many models leaks beyond guessing, at its share of alpha: all of it holds at once."""
    alpha = audit.alpha / models
    rows = read_rows(audit, guess, alpha)
    more = [audit.greedy(row.result) for row in rows if row.more_than_guess]
    bound = None if itself else excess(rows, audit, guess, alpha)
    return {
        "beyond": (more.count("leaks"), more.count("clean")),
        "excess": bound and replace(bound, alpha=audit.alpha, method=f"{bound.method}, at alpha / {models}"),
    }


def _check_alike(first: Audit, other: Audit, run: str) -> None:
    for what in ("scorer", "threshold", "alpha"):
        if getattr(first, what) != getattr(other, what):
            raise InputError(
                f"run {run!r} has {what} {getattr(other, what)!r}, the first {getattr(first, what)!r}: bound it again "
                f"with the same {what}"
            )
    if [p.prompt for p in first.prompts] != [p.prompt for p in other.prompts]:
        raise InputError(f"run {run!r} has other prompts than the first: audit all models on one prompts file")
    if first.run["params"] != other.run["params"]:
        raise InputError(f"run {run!r} has other sampling parameters than the first: draw it again with those")


def _distinct(names: list[str]) -> list[str]:
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]


def _cost(audit: Audit) -> dict[str, Any] | None:
    """What the model's training took, where its folder is still there and says so."""
    file = Path(audit.model) / "training.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def averages_jointly(audits: Sequence[Audit]) -> tuple[Bound, ...] | None:
    """The average P(leak) of each of M models from both sides, all at once at level alpha; None if some audit stopped
    early or was not planned.

    Each is bounded at alpha / M. By the union bound all hold together, whatever the draws of different models have to
    do with each other, as when all runs share a seed. So also what is picked among them by its result holds.
    """
    if any(audit.run.get("rule") or not audit.planned for audit in audits):
        return None
    return tuple(_between(audit, len(audits)) for audit in audits)


def _between(audit: Audit, models: int) -> Bound:
    """The average P(leak) of one of so many models, at its share of alpha.

    Prompts that were drawn without replacement enter with their certain limits, the others with a bound on their
    average, in proportion to their numbers.
    """
    drawn = [p for p in audit.prompts if p.limits is None]
    low = [p.limits.lower for p in audit.prompts if p.limits]
    high = [p.limits.upper for p in audit.prompts if p.limits]
    method = "certain limits"
    if drawn:
        leaks, sizes = [p.num_leaks for p in drawn], [p.num_samples for p in drawn]
        rest = average_proportion_bound(leaks, sizes, alpha=audit.alpha / models, side="both")
        low, high = [*low, rest.lower * len(drawn)], [*high, rest.upper * len(drawn)]
        method = f"{rest.method}{' and certain limits' if len(low) > 1 else ''}"
    size = len(audit.prompts)
    return Bound(
        audit.mean_leak.estimand,
        audit.mean_leak.estimate,
        math.fsum(low) / size * (1 - 1e-12),
        min(math.fsum(high) / size * (1 + 1e-12), 1.0),
        audit.alpha,
        "both",
        audit.mean_leak.n,
        f"{method}, at alpha / {models}",
        f"the average prompt, jointly with {models} models",
        audit.mean_leak.unit,
    )
