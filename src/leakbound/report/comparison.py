"""A comparison for its readers: what is proven in words, a figure, and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from leakbound.bounds import Ranking
from leakbound.bounds.result import Bound, show_confidence
from leakbound.report import style
from leakbound.report.parts import Document, Picture, Section, Table
from leakbound.report.shown import NOTHING, limits, says_nothing
from leakbound.results.comparison import Compared, Comparison
from leakbound.wording import about, brief, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Models side by side"
MARKERS = "os^Dv<>PX*"

CHOSEN_LATER = (
    "Caution: of some models the scorer, the threshold or alpha was chosen after the draws; if the choice looked at "
    "the scores, the confidence printed here is too high."
)


def document(found: Comparison) -> Document:
    """The whole comparison."""
    confidence = show_confidence(found.alpha)
    whose = "for each model alone" if found.jointly is None else "for all models at once"
    picture = Picture(
        "trade-off",
        "average P(leak), observed and its bound, against use",
        partial(trade_off, found),
        "Each mark is a model as observed: down is better, and right is better where use is known. The upright bar "
        f"ends at the bound on its average P(leak), which holds {whose} with confidence {confidence}; a level bar is "
        "the interval of its use, for that model alone.",
    )
    sections = (Section("Leak against use", (picture,), on=("page",)), *(Section("", (t,)) for t in tables(found)))
    return Document(TITLE, tuple(sentences(found)), sections, made="leakbound compare")


def tables(found: Comparison) -> tuple[Table, ...]:
    """Leakage, differences where draws are paired, scores, use and diversity, cost."""
    return _leakage(found), *_differences(found), _scores(found), _use(found), _cost(found)


def _leakage(found: Comparison) -> Table:
    confidence = show_confidence(found.alpha)
    together = found.jointly or ()
    note = (
        f"Observed: the share of draws that leaked, without a guarantee. Bounds on P(leak) hold with confidence "
        f"{confidence}: those on the average prompt and on every prompt each for one model and one column alone"
    )
    if together:
        note += "; those under “all models” for all models at once: use them for a model that is picked by its result"
    note += "."
    if found.order:
        note += " Rank: 1 leaks least on the average prompt; proven, for all models at once with the same confidence."
    cut = any(m.cut_share for m in found.models)
    if cut:
        note += " Cut: the share of draws that were cut at max_tokens before they leaked; whether they would is open."
    if not all(m.planned for m in found.models):
        note += f" {CHOSEN_LATER}"
    rows = [
        (
            m.name,
            _once(m, found.num_prompts),
            about(m.mean_leak.estimate),
            limits(m.mean_leak),
            *([about(m.cut_share or 0.0)] if cut else []),
            *([limits(together[i])] if together else []),
            limits(m.worst_prompt),
            *([_rank(found.order, i)] if found.order else []),
        )
        for i, m in enumerate(found.models)
    ]
    if any(NOTHING in row for row in rows):
        note += f" “{NOTHING}”: nearly every draw leaked, or there were too few."
    head = (
        "model", "leaks asked once", "average, observed", "average", *(["cut"] if cut else []),
        *(["all models"] if together else []), "every prompt", *(["rank"] if found.order else []),
    )  # fmt: skip
    return Table(head, tuple(rows), "Leakage", note)


def _once(model: Compared, total: int) -> str:
    """What leaks when asked once; a greedy answer that was cut before it leaked is unknown."""
    unknown = total - model.num_asked
    if unknown == total:
        return "unknown"
    return f"{model.greedy_leaks:,} of {total:,}" + (f", {unknown:,} unknown" if unknown else "")


def _rank(order: Ranking, model: int) -> str:
    best, worst = order.best_rank[model], order.worst_rank[model]
    return str(best) if best == worst else f"{best} to {worst}"


def _differences(found: Comparison) -> Iterator[Table]:
    """Each other model against the first, where draws are paired."""
    columns = [(what, some) for what, some in (("leaks", found.differences), ("right", found.retained)) if some]
    if not columns:
        return
    rows = [
        (m.name, *(cell for _, some in columns for cell in (about(some[i].estimate), limits(some[i]))))
        for i, m in enumerate(found.models[1:])
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
    if found.jointly is None:
        name, rate = min(((brief(m.name), m.mean_leak.estimate) for m in found.models), key=lambda pair: pair[1])
        yield (
            f"The lowest average P(leak) observed is that of {name}, {about(rate)}; no bound is given for a model "
            "picked by its result, and no order is proven: draws stopped early, or the statement was chosen after them."
        )
    else:
        all_at_once = f"the bounds of all models hold at once, with confidence {confidence}"
        yield f"{_smallest(found, found.jointly)} ({all_at_once})."
    hides = [
        brief(m.name) for m in found.models if m.num_asked == found.num_prompts and not m.greedy_leaks and m.num_hidden
    ]
    if hides:
        yield f"Asked once nothing leaks from {', '.join(hides)}; sampled, something does."
    if found.proven is not None:
        how = "by the same bounds" if found.order is None else f"by paired draws, with confidence {confidence}"
        yield f"Proven about the average P(leak), {how}: {_order(found, found.proven)}."


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
        return "no model leaks less than another"
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


def trade_off(found: Comparison, width: int = style.WIDE) -> Figure:
    """Average P(leak), observed, and its bounds against the share of retain questions answered rightly, with intervals.

    The bounds are those that hold for all models at once, where there are any. Without retain runs the models stand
    side by side.
    """
    small = width < 700
    figure = style.canvas(width, 360 if small else 430)
    ax = figure.subplots()
    style.plain(ax, 11)
    ax.grid(axis="x", color=style.LINE, linewidth=0.8)
    colours = [style.COLOURS["hidden"], style.COLOURS["plain"], style.COLOURS["unseen"], style.INK]
    useful = all(m.utility is not None for m in found.models)
    for i, m in enumerate(found.models):
        colour, leak, use = colours[i % len(colours)], m.mean_leak, m.utility if useful else None
        x = float(i) if use is None else use.estimate
        upper = leak.upper if found.jointly is None else found.jointly[i].upper
        ax.vlines(x, leak.estimate, upper, color=colour, linewidth=3, alpha=0.5)
        ax.plot([x], [upper], "_", color=colour, markersize=9)
        if use is not None:
            ax.hlines(leak.estimate, use.lower, use.upper, color=colour, linewidth=1.2, alpha=0.7)
        ax.plot([x], [leak.estimate], MARKERS[i % len(MARKERS)], color=colour, markersize=8, label=brief(m.name, 30))
    ax.set_ylim(bottom=0)
    ax.set_ylabel("average P(leak): observed, bar up to its bound", fontsize=11, color=style.MUTED)
    if not useful:
        ax.set_xticks([])
    ax.set_xlabel("retain questions answered rightly" if useful else "", fontsize=11, color=style.MUTED)
    legend = figure.legend(loc="outside upper left", ncols=2 if small else 4, frameon=False, fontsize=11)
    for text in legend.get_texts():
        text.set_color(style.INK)
        text.set_parse_math(False)
    return figure
