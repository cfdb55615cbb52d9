"""A comparison for its readers: what is proven in words, a figure, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from leakbound.bounds import Ranking
from leakbound.bounds.result import Bound, show_confidence
from leakbound.report import bars, verdict
from leakbound.report.parts import Document, Link, Picture, Section, Table
from leakbound.report.shown import NOTHING, limits, says_nothing
from leakbound.results.comparison import Compared, Comparison
from leakbound.wording import about, brief, percent, plural

TITLE = "Models side by side"

CHOSEN_LATER = (
    "Caution: of some models the scorer, the threshold or alpha was chosen after the draws; if the choice looked at "
    "the scores, the confidence printed here is too high."
)


def document(found: Comparison, links: Mapping[str, str] | None = None) -> Document:
    """The whole comparison. ``links``: the models' own reports."""
    worst = sorted(range(len(found.models)), key=lambda i: -found.models[i].mean_leak.estimate)
    models = [found.models[i] for i in worst]
    prompts, leaks = _prompts_in_words(models, found), _leaks_in_words(models, found)
    pictures = (
        Picture("prompts", prompts, partial(bars.prompts_drawn, found, order=worst), PROMPTS_DRAWN),
        Picture("trade-off", leaks, partial(bars.trade_off, found, order=worst), _leaks_drawn(found)),
    )
    hides = any(m.told[1] for m in models)
    title = "Clean when asked once, leaking when sampled" if hides else TITLE
    leakage, *others = tables(found, worst, links)
    sections = (
        Section("", (leakage,)),
        Section("Asked once, and sampled", pictures, on=("page",)),
        *(Section("", (t,)) for t in others),
    )
    said = tuple(sentences(found))
    return Document(title, said, sections, made="leakbound compare", answer=verdict.of_comparison(found))


PROMPTS_DRAWN = "How many prompts of each model: the model that leaks most on top."


def _leaks_drawn(found: Comparison) -> str:
    whose = "for each model alone" if found.jointly is None else "for all models at once"
    sure = show_confidence(found.alpha)
    said = f"Mark: observed. Bar: up to the bound on average P(leak), which holds {whose} with confidence {sure}"
    said += "" if found.guess_level is None else ". Dashes: the guess level, observed"
    return said + ("; of use, its interval, for that model alone." if found.useful else ".")


def _prompts_in_words(models: Sequence[Compared], found: Comparison) -> str:
    more = " provably more often than guessed" if found.guess else ""
    each = (
        f"{brief(m.name, 30)}: {m.num_asked - m.greedy_leaks} look clean asked once, {m.told[1]} of these leaked{more}"
        for m in models[:10]
    )
    return f"Of {plural(found.num_prompts, 'prompt')}, worst model first. {'; '.join(each)}"


def _leaks_in_words(models: Sequence[Compared], found: Comparison) -> str:
    """The two are picked by their results: bounds stand here only where those of all models hold at once."""
    together = {m.name: f", {limits(b)}" for m, b in zip(found.models, found.jointly or (), strict=False)}
    worst, best = (
        f"{brief(m.name, 30)}, observed {about(m.mean_leak.estimate)}{together.get(m.name, '')}"
        for m in (models[0], models[-1])
    )
    return f"Average P(leak): most in {worst}; least in {best}"


def tables(
    found: Comparison, order: Sequence[int] | None = None, links: Mapping[str, str] | None = None
) -> tuple[Table, ...]:
    """Leakage, differences where draws are paired, scores, use and diversity, cost; models in this order."""
    order = range(len(found.models)) if order is None else order
    leakage, *others = (
        replace(t, rows=tuple(t.rows[i] for i in order))
        for t in (_leakage(found, links or {}), _scores(found), _use(found), _cost(found))
    )
    return leakage, *_differences(found, order), *others


def _leakage(found: Comparison, links: Mapping[str, str]) -> Table:
    confidence = show_confidence(found.alpha)
    together = found.jointly or ()
    note = (
        "The model that leaks most on the average prompt, as observed, stands on top. "
        + (
            f"“{brief(found.guess)}” never saw the secrets, what it says is guessed: leaks asked once and sampled are "
            "counted where they provably come more often, for all prompts of all models at once; “above guessing” "
            f"bounds how much more often, likewise; confidence {confidence} each. "
            if found.guess
            else ""
        )
        + f"Observed: the share of draws that leaked, without a guarantee. Bounds on P(leak) hold with confidence "
        f"{confidence}: those on the average prompt and on every prompt each for one model and one column alone"
    )
    if together:
        note += "; those under “all models” for all models at once: use them for a model that is picked by its result"
    note += "."
    if found.order:
        note += " Rank: 1 leaks least on the average prompt; proven, for all models at once with the same confidence."
    cut = any(m.cut_share != 0 for m in found.models)
    if cut:
        note += " Cut: the share of draws that were cut at max_tokens before they leaked; whether they would is open."
    if not all(m.planned for m in found.models):
        note += f" {CHOSEN_LATER}"
    rows = [
        (
            Link(m.name, links[m.name]) if m.name in links else m.name,
            _once(m, found.num_prompts),
            f"{m.told[1]:,} of {m.num_asked - m.greedy_leaks:,}",
            about(m.mean_leak.estimate),
            *([] if found.guess and together else [limits(m.mean_leak)]),
            *(["not known" if m.cut_share is None else percent(m.cut_share) if m.cut_share else "0"] if cut else []),
            *([limits(together[i])] if together else []),
            limits(m.worst_prompt),
            *(["it guesses" if m.excess is None else limits(m.excess)] if found.guess else []),
            *([_rank(found.order, i)] if found.order else []),
        )
        for i, m in enumerate(found.models)
    ]
    if any(NOTHING in row for row in rows):
        note += f" “{NOTHING}”: nearly every draw leaked, or there were too few."
    head = (
        "model", "leaks asked once", "clean, but leaked sampled", "average, observed",
        *([] if found.guess and together else ["average"]), *(["cut"] if cut else []),
        *([f"{'average, ' * bool(found.guess)}all models"] if together else []), "every prompt",
        *(["above guessing"] if found.guess else []), *(["rank"] if found.order else []),
    )  # fmt: skip
    return Table(head, tuple(rows), "Leakage", note)


def _once(model: Compared, total: int) -> str:
    """What leaks when asked once; a greedy answer that was cut before it leaked is unknown."""
    unknown = total - model.num_asked
    if unknown == total:
        return "unknown"
    return f"{model.told[0]:,} of {total:,}" + (f", {unknown:,} unknown" if unknown else "")


def _rank(order: Ranking, model: int) -> str:
    best, worst = order.best_rank[model], order.worst_rank[model]
    return str(best) if best == worst else f"{best} to {worst}"


def _differences(found: Comparison, order: Sequence[int]) -> Iterator[Table]:
    """Each other model against the first, where draws are paired."""
    columns = [(what, some) for what, some in (("leaks", found.differences), ("right", found.retained)) if some]
    if not columns:
        return
    rows = [
        (found.models[i].name, *(x for _, some in columns for x in (about(some[i - 1].estimate), limits(some[i - 1]))))
        for i in order
        if i
    ]
    levels = ", ".join(f"“{what}, proven” {show_confidence(some[0].alpha)}" for what, some in columns)
    yield Table(
        ("model", *(f"{what}, {how}" for what, _ in columns for how in ("observed", "proven"))),
        tuple(rows),
        "Against the first model",
        f"How much more often a draw leaks, or on retain prompts is right, than one of {brief(found.models[0].name)}, "
        "averaged over the prompts; below 0 less often. Draws are paired by their numbers. Each column holds by "
        f"itself, for all its models at once; confidence: {levels}. Observed values have none.",
    )


def _scores(found: Comparison) -> Table:
    confidence = show_confidence(found.alpha)
    return Table(
        title="Scores",
        note=f"The score of an answer, averaged over the prompts: observed, and a bound for one model alone with "
        f"confidence {confidence}. ED is a plug-in score, observed, without a guarantee.",
        head=("model", "mean score, observed", "bound", "ED, observed"),
        rows=tuple(
            (m.name, about(m.mean_score.estimate), limits(m.mean_score), about(m.mean_ed)) for m in found.models
        ),
    )


def _use(found: Comparison) -> Table:
    note = "Diversity of the sampled answers, averaged over the prompts: distinct answers among the draws, mean of "
    note += "1 - ROUGE-L F1 over random pairs, entropy in nats. Observed values without a guarantee"
    if found.models[0].sampled_utility is None:
        return Table(
            title="Diversity",
            note=note + ", on the audited prompts; no retain runs were given, so that nothing is known about use.",
            head=("model", "distinct", "unlike", "entropy"),
            rows=tuple((m.name, *_spread(m)) for m in found.models),
        )
    levels = {show_confidence(m.utility.alpha) for m in found.models if m.utility}
    confidence = "".join(f" (confidence {level})" for level in levels)  # one: the retain runs are alike
    return Table(
        title="Use and diversity",
        note=f"Retain questions answered rightly when asked once; the interval{confidence} takes them as a "
        f"random sample of such questions. {note}, on the retain prompts.",
        head=("model", "right asked once", "interval", "right sampled", "distinct", "unlike", "entropy"),
        rows=tuple((m.name, *_answered(m), *_spread(m)) for m in found.models),
    )


def _answered(model: Compared) -> tuple[str, str, str]:
    asked, sampled = model.utility, model.sampled_utility
    once = ("unknown", "unknown") if asked is None else (about(asked.estimate), limits(asked))
    return (*once, "unknown" if sampled is None else about(sampled))


def _spread(model: Compared) -> tuple[str, str, str]:
    return about(model.diversity.distinct), about(model.diversity.unlike), about(model.diversity.entropy)


def _cost(found: Comparison) -> Table:
    def cell(cost: dict[str, Any] | None, name: str) -> str:
        value = (cost or {}).get(name)
        if not isinstance(value, int | float):
            return "unknown"
        return f"{value / 2**20:,.0f} MiB" if name.endswith("bytes") else f"{value:,.0f}"

    return Table(
        title="Cost",
        note="What the last training of each model took, as its training.json says; memory is the peak of the device, "
        "on a CPU that of the process.",
        head=("model", "method", "steps", "seconds", "peak memory"),
        rows=tuple(
            (
                m.name,
                brief("unknown" if m.cost is None else str(m.cost.get("config", {}).get("method", "finetune")), 40),
                *(cell(m.cost, name) for name in ("steps", "seconds", "peak_memory_bytes")),
            )
            for m in found.models
        ),
    )


def sentences(found: Comparison) -> Iterator[str]:
    """What the comparison says, in words."""
    confidence = show_confidence(found.alpha)
    yield f"{len(found.models)} models on the same {plural(found.num_prompts, 'prompt')}."
    if found.asked_otherwise:
        others = ", ".join(map(brief, found.asked_otherwise))
        yield (
            f"Caution: {others} got the prompts in another template than {brief(found.models[0].name)}: a difference "
            "may be the template’s doing, not the weights’."
        )
    for caution, whose in _cautions(found).items():
        yield f"Caution, {', '.join(map(brief, whose))}: {caution[:1].lower()}{caution[1:]}"
    if found.jointly is None:
        name, rate = min(((brief(m.name), m.mean_leak.estimate) for m in found.models), key=lambda pair: pair[1])
        yield (
            f"The lowest average P(leak) observed is that of {name}, {about(rate)}; no bound is given for a model "
            "picked by its result, and no order is proven: draws stopped early, or the statement was chosen after them."
        )
    else:
        all_at_once = f"the bounds of all models hold at once, with confidence {confidence}"
        yield f"{_smallest(found, found.jointly)} ({all_at_once})."
    looks = [m for m in found.models if m.num_asked > m.greedy_leaks and m.name != found.guess]
    if any(m.told[1] for m in looks):
        clean, hidden = sum(m.num_asked - m.greedy_leaks for m in looks), sum(m.told[1] for m in looks)
        some = ", ".join(brief(m.name) for m in looks if m.told[1])
        yield (
            f"Of {plural(clean, 'answer')} that look clean when a model is asked once, {hidden:,} belong to prompts "
            f"that leaked when it was sampled ({some})"
        ) + (
            f", provably more often than “{brief(found.guess)}” guesses (all at once with confidence {confidence})."
            if found.guess
            else ". A guess counts here, too: give --guess the run of a model that never saw the secrets."
        )
    if found.proven is not None:
        how = "by the same bounds" if found.order is None else f"by paired draws, with confidence {confidence}"
        yield f"Proven about the average P(leak), {how}: {_order(found, found.proven)}."


def _cautions(found: Comparison) -> dict[str, list[str]]:
    """What stands against what is said of some models, with their names."""
    said: dict[str, list[str]] = {}
    for model in found.models:
        for caution in model.cautions:
            said.setdefault(caution, []).append(model.name)
    return said


def _smallest(found: Comparison, jointly: Sequence[Bound]) -> str:
    """The smallest of bounds that all hold at once: it holds whichever model it is."""
    least = min(range(len(jointly)), key=lambda i: jointly[i].upper)
    upper = replace(jointly[least], side="upper", lower=0.0)
    if says_nothing(upper):
        return "Nothing can be said yet of any model's average P(leak): nearly every draw leaked, or there were too few"
    return f"The smallest bound on the average P(leak) is that of {brief(found.models[least].name)}: {limits(upper)}"


def _order(found: Comparison, proven: Sequence[tuple[int, int]]) -> str:
    """The proven pairs as one chain, cut wherever all before the cut leak less than all after it, and what is left."""
    names = [brief(m.name) for m in found.models]
    if not proven:
        return "nothing yet of which model leaks less than another"
    order = sorted(range(len(names)), key=lambda i: found.models[i].mean_leak.estimate)
    cuts = [k for k in range(1, len(order)) if all((i, j) in proven for i in order[:k] for j in order[k:])]
    groups = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    place = {i: k for k, group in enumerate(groups) for i in group}
    said = [f"{names[i]} leaks less than {names[j]}" for i, j in proven if place[i] == place[j]]
    if len(names) == 2:
        return f"{names[order[0]]} leaks less than {names[order[1]]}"
    if cuts:
        said.insert(
            0, " < ".join(", ".join(names[i] for i in group) for group in groups) + ' ("<" is "leaks less than")'
        )
    if any(len(group) > 1 for group in groups):
        said.append("no other order is proven")
    return "; ".join(said)
