"""The page of the study harry_potter, and its pictures, from its results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import ROOT
from showing import COLOURS, MARKERS, canvas, interval, probabilities, said, save, table, up

PICTURES = ROOT / "docs" / "results"
ALPHA = 0.01
METHODS: dict[str, dict[str, Any]] = {
    "npo_gd": {},
    "simnpo_gd": {"forget_weight": 0.1375},
    "me_gd": {"forget_weight": 0.1},
}
"""With the weights of their papers."""
NAMES = {
    "raw": "as released", "retained": "never taught", "taught": "taught", "npo_gd": "NPO+GD", "simnpo_gd": "SimNPO+GD",
    "me_gd": "ME+GD",
}  # fmt: skip
LEVELS = (0.01, 0.1)
GRID = tuple(i / 10 for i in range(10))


def silent(row: dict[str, Any]) -> bool:
    """Whether the greedy answer, whole or cut, does not leak."""
    return bool(row["greedy"] != "leaks")


def between(one: dict[str, Any], level: float, *, whole: bool = False) -> tuple[int, int]:
    """At least and at most so many questions have P(leak) > level and a greedy answer that does not leak: jointly.

    ``whole``: only greedy answers that ended by themselves; of one that was cut nobody knows how it goes on.
    """
    rows = [row for row in one["questions"] if (row["greedy"] == "clean" if whole else silent(row))]
    return sum(row["jointly"][1] > level for row in rows), sum(row["jointly"][2] > level for row in rows)


def more_than_guessed(one: dict[str, Any], never: dict[str, Any]) -> int:
    """How many silent questions provably leak more often than in the model that never was taught."""
    pairs = zip(one["questions"], never["questions"], strict=True)
    return sum(silent(row) and row["paired"][1] > guess["paired"][2] for row, guess in pairs)


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown, and its"""
    size, models = found["size"], {name: found[f"asked {name}"] for name in NAMES if f"asked {name}" in found}
    total = size["counts"]["harry_potter"]
    forgot = [name for name in METHODS if name in models]
    parts = [
        f"{total} questions, temperature 1, "
        f"{size['max_tokens']} tokens. Intervals of averages have confidence {1 - ALPHA:g} each; counts of questions "
        f"hold for all {total} at once with that confidence.",
        overview(models, total),
        unseen(models, total),
        chosen(found, size),
    ]
    if forgot:
        parts += [questions_picture(models, total), hidden(models[forgot[0]], NAMES[forgot[0]])]
    if any(f"sweep {name}" in found for name in models):
        parts += ["## Temperature and top-p", sweeps(found, total)]
    if models:
        parts += ["## The whole distribution", curves(models)]
    return "\n\n".join([*parts, "## The claim", claim(models, forgot, total)])


def overview(models: dict[str, Any], total: int) -> str:
    """One row for each model: what it leaks and what it still knows."""
    rows = []
    for name, one in models.items():
        state, use = [row["greedy"] for row in one["questions"]], one["use"]
        kept = (f"{one['once']} of {one['of']}; {interval(one['sampled'])}" for one in (use["retain"], use["held_out"]))
        draws = max(row["n"] for row in one["questions"])
        rows.append([NAMES[name], draws, state.count("leaks"), state.count("unknown"), interval(one["average"]), *kept])
    head = [
        "model", "draws of each", f"asked once: leak, of {total}", "asked once: cut before a leak",
        "sampled: average P(leak)", "retained: right once; average P(right)",
        "never trained on: right once; average P(right)",
    ]  # fmt: skip
    return table(head, rows)


def unseen(models: dict[str, Any], total: int) -> str:
    """One row for each model: how many questions leak only when sampled."""
    rows, head = [], ["model", "leaked in a draw", *(f"P(leak) > {x:g}" for x in LEVELS)]
    head += [*(f"whole answer, P(leak) > {x:g}" for x in LEVELS), "M_bin > .1"]
    if never := models.get("retained"):
        head.append("more often than never taught")
    for name, one in models.items():
        quiet = [row for row in one["questions"] if silent(row)]
        counts = ["{} to {}".format(*between(one, level, whole=whole)) for whole in (False, True) for level in LEVELS]
        m_bin = sum(row["m_bin"] > 0.1 for row in quiet)
        more = [more_than_guessed(one, never)] if never else []
        seen = sum(row["leaks"] > 0 for row in quiet)
        rows.append([NAMES[name], seen, *counts, f"{m_bin} ({100 * m_bin / total:.0f} %)", *more])
    return (
        f"Of the questions that do not leak when asked once, so many do when sampled; *whole answer*: only those whose "
        f"greedy answer ended by itself.\n\n{table(head, rows)}"
    )


def chosen(found: dict[str, Any], size: dict[str, Any]) -> str:
    """Which learning rates were tried."""
    rows = [
        [NAMES[method], f"{one['rate']:g}", one["leaks"], f"{one['retained']} of {size['counts']['retain']}"]
        for method in METHODS
        for one in found.get(f"forget {method}", {}).get("tried", ())
    ]
    head = ["method", "learning rate tried, the last one taken", "greedy answers that leak", "retained answers right"]
    return table(head, rows)


def questions_picture(models: dict[str, Any], total: int) -> str:
    """Each question's P(leak), by what its greedy answer says."""
    names = [name for name in ("taught", *METHODS) if name in models]
    figure, axes = canvas(2, 9, 2.6 * ((len(names) + 1) // 2), rows=(len(names) + 1) // 2)
    for ax, name in zip(axes, names, strict=False):
        rows = sorted(models[name]["questions"], key=lambda row: (row["leaks"] / row["n"], row["own"][2]))
        for k, (state, label) in enumerate((("clean", "no leak"), ("leaks", "leak"), ("unknown", "cut, no leak"))):
            some = [(x, row["own"]) for x, row in enumerate(rows) if row["greedy"] == state]
            if some:
                x, own = zip(*some, strict=True)
                ends = [[p - low for p, low, _ in own], [high - p for p, _, high in own]]
                ax.errorbar(x, [p for p, _, _ in own], yerr=ends, fmt=MARKERS[k], ms=3, lw=0.8,
                            color=COLOURS[(1, 0, 2)[k]], label=f"asked once: {label}")  # fmt: skip
        probabilities(ax)
        ax.axhline(0.1, color="#626a75", lw=0.6, ls=":")
        ax.set_title(NAMES[name], fontsize=10)
        ax.set_xticks([])
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.supylabel("P(leak)", fontsize=9)
    save(figure, PICTURES / "harry_potter_questions.svg")
    found = "; ".join("after {}: {} to {}".format(NAMES[n], *between(models[n], 0.1)) for n in names if n in METHODS)
    return (
        f"![Of {total} questions, so many leak in more than a tenth of the draws though the greedy answer does not: "
        f"{found}](harry_potter_questions.svg)"
    )


def hidden(one: dict[str, Any], name: str) -> str:
    """The questions that leak most while the greedy answer does not."""
    rows = sorted((row for row in one["questions"] if silent(row) and row["leaks"]), key=lambda row: -row["leaks"])[:6]
    if not rows:
        return f"After {name} no question without a greedy leak leaked in any draw."
    lines = [[row["id"], said(row["said"]), said(row["leaked"]), interval(row["own"])] for row in rows]
    head = ["question", "asked once", "one of the draws that leak", "P(leak), this question alone"]
    return f"The questions that leak most after {name} though the greedy answer does not:\n\n{table(head, lines)}"


def sweeps(found: dict[str, Any], total: int) -> str:
    """P(leak) against temperature and top-p."""
    figure, axes = canvas(2, 9, 3.0, share=False)
    rows = []
    names = [name for name in NAMES if f"sweep {name}" in found]
    for k, name in enumerate(names):
        for one in found[f"sweep {name}"]:
            rows.append([NAMES[name], f"{one['temperature']:g}", f"{one['top_p']:g}", interval(one["average"]),
                         one["leaking"], f"{one['distinct']:.3f}", f"{one['cut']:.3f}"])  # fmt: skip
        for ax, axis, fixed in zip(axes, ("temperature", "top_p"), ("top_p", "temperature"), strict=True):
            some = sorted((o[axis], o["average"]) for o in found[f"sweep {name}"] if o[fixed] == 1)
            ends = [[a[0] - a[1] for _, a in some], [a[2] - a[0] for _, a in some]]
            ax.errorbar([x for x, _ in some], [a[0] for _, a in some], yerr=ends, marker=MARKERS[k], ms=4,
                        lw=1.2, color=COLOURS[k], label=NAMES[name])  # fmt: skip
            ax.set_xlabel(axis.replace("_p", "-p"))
            probabilities(ax)
    axes[0].set_ylabel("average P(leak)")
    axes[0].legend(fontsize=8, frameon=False, loc="center left")
    save(figure, PICTURES / "harry_potter_sweep.svg")
    told = []
    for name in names:
        some = sorted((o["temperature"], o["average"][0]) for o in found[f"sweep {name}"] if o["top_p"] == 1)
        told.append(
            f"{NAMES[name]}: {some[0][1]:.3f} at temperature {some[0][0]:g}, {some[-1][1]:.3f} at {some[-1][0]:g}"
        )
    alt = f"Average P(leak) against temperature and against top-p. {'; '.join(told)}"
    head = ["model", "temperature", "top-p", "average P(leak)", f"of {total} questions leaked in a draw",
            "distinct answers, share of the draws", "cut before a leak"]  # fmt: skip
    return f"![{alt}](harry_potter_sweep.svg)\n\n{table(head, rows)}"


def curves(models: dict[str, Any]) -> str:
    """The average survival curves, and the ED scores."""
    figure, axes = canvas(1, 7, 3.4)
    rows = []
    for k, (name, one) in enumerate(models.items()):
        curve = one["spread"]["curve"]
        ends = [[p - low for p, low, _ in curve], [high - p for p, _, high in curve]]
        axes[0].errorbar(GRID, [p for p, _, _ in curve], yerr=ends, marker=MARKERS[k], ms=4, lw=0.8, ls=":",
                         elinewidth=1.2, color=COLOURS[k], label=NAMES[name])  # fmt: skip
        ed, upper = one["spread"]["ed"], one["spread"]["ed_upper"]
        rows.append([NAMES[name], f"{sum(ed) / len(ed):.3f}", f"{max(ed):.3f}", up(max(upper)),
                     *(interval(curve[GRID.index(x)]) for x in (0.5, 0.9))])  # fmt: skip
    axes[0].set(xlabel="x", ylabel="average P(ROUGE-L recall > x)", ylim=(0, 1.02))
    axes[0].legend(fontsize=8, frameon=False)
    save(figure, PICTURES / "harry_potter_survival.svg")
    told = ", ".join(f"{row[0]} {row[4].split(' ')[0]}" for row in rows)
    head = ["model", "ED, mean of the questions", "ED, largest", "bound on the largest of E[h] + 2 sd(h)",
            "average P(h > .5)", "average P(h > .9)"]  # fmt: skip
    alt = f"Average share of draws that say more than x of the answer's words, by x; more than half of them: {told}"
    return f"![{alt}](harry_potter_survival.svg)\n\n{table(head, rows)}"


def claim(models: dict[str, Any], forgot: Sequence[str], total: int) -> str:
    """The one sentence."""
    if not forgot:
        return "The paper's claim cannot be told here, for no model was unlearned."
    limits = {name: between(models[name], 0.1, whole=True) for name in forgot}
    told = []
    for name, (low, high) in limits.items():
        rows = models[name]["questions"]
        m_bin = sum(silent(row) and row["m_bin"] > 0.1 for row in rows)
        rare = "{} to {}".format(*between(models[name], 0.01, whole=True))
        told.append(
            f"after {NAMES[name]} {low} to {high} of {total} questions leak in more than 10 % of the draws, and {rare} "
            f"in more than 1 %, though the greedy answer ended by itself and does not leak (M_bin > 10 % and no greedy "
            f"leak, cut ones counted: {100 * m_bin / total:.0f} % of the questions, where the paper has 38 %)"
        )
    if all(low for low, _ in limits.values()):
        verdict = "holds here"
    elif any(low for low, _ in limits.values()):
        verdict = f"holds here for {', '.join(NAMES[name] for name, (low, _) in limits.items() if low)} only"
    else:
        verdict = "cannot be told here" if any(high for _, high in limits.values()) else "does not hold here"
    return (
        f"The paper's claim, that greedy answers make forgotten what sampling still finds in more than a tenth of the "
        f"draws, {verdict}: {'; '.join(told)} (each statement with confidence {1 - ALPHA:g})."
    )
