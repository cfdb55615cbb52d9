"""Figures of the distribution study. Colour, line and marker say the same; wide and narrow pages get their own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leakbound.report import style as plots
from leakbound.studies.distribution.corpora import INSIDE
from leakbound.studies.distribution.seeds import median

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from leakbound.studies.distribution.courses import Curve
    from leakbound.studies.distribution.findings import KindFound, Study

Floats = NDArray[np.float64]
ORANGE, BLUE, GREY = plots.COLOURS["hidden"], plots.COLOURS["plain"], plots.COLOURS["unseen"]
STYLES: tuple[tuple[str, Any, str], ...] = (
    (BLUE, (0, (5, 2)), "s"),
    (plots.INK, (0, (1, 1.5)), "^"),
    (GREY, (0, (6, 2, 1, 2)), "D"),
    (BLUE, (0, (1, 1)), "v"),
)
"""Colour, dashes and marker of the kinds outside the distribution; inside it is an orange line with circles."""
UNSEEN = float(np.log2(np.e))
"""Bits: the mean exposure among held-out examples of an example that was never seen, at most."""
LEVELS = np.linspace(1, 0, 21)
"""Shares of the first exposure at which the price is read."""
PRICES = {
    "retain_loss": "loss on retained examples, rise",
    "validation_loss": "loss on unseen examples, rise",
    "rouge_l": "ROUGE-L of retained answers, fall",
    "bleu": "BLEU of unseen sentences, fall",
    "chrf": "chrF of unseen sentences, fall",
}


def style(study: Study, kind: KindFound) -> tuple[str, Any, str]:
    """A kind's colour, dashes and marker."""
    if kind.name == INSIDE:
        return ORANGE, "-", "o"
    others = [k.name for k in study.kinds if k.name != INSIDE]
    return STYLES[others.index(kind.name) % len(STYLES)]


def exposure_by_steps(study: Study, width: int = plots.WIDE) -> Figure:
    """A panel for each kind and measure of exposure in bits over the steps: each seed, and the median with its band."""
    names = {"exposure": "against retrained models", "relex_heldout": "among held-out examples"}
    figure, panels = _panels(len(study.kinds) * len(names), width, 230, columns=len(study.kinds))
    for ax, (name, kind) in zip(panels, [(n, k) for n in names for k in study.kinds], strict=True):
        colour, dashes, _ = style(study, kind)
        curve = kind.curves[name]
        for row in curve.values:
            ax.plot(kind.steps, row, color=colour, linewidth=0.7, alpha=0.45)
        _band(ax, kind.steps, curve, colour, dashes)
        ax.axhline(0 if name == "exposure" else UNSEEN, color=plots.INK, linewidth=1)
        ax.set_title(f"{kind.name}, {names[name]}", loc="left", fontsize=11, color=plots.INK)
    for ax in panels[-len(study.kinds) :]:
        ax.set_xlabel("steps of unlearning", fontsize=11, color=plots.MUTED)
    for ax in panels[:: len(study.kinds)]:
        ax.set_ylabel("exposure, bits", fontsize=11, color=plots.MUTED)
    return figure


def price_by_exposure(study: Study, width: int = plots.WIDE) -> Figure:
    """For each measure a panel: what is lost, against the share of the first exposure that is left."""
    names = ("retain_loss", "validation_loss", *study.qualities)
    figure, panels = _panels(len(names), width, 300)
    for ax, name in zip(panels, names, strict=True):
        for kind in study.kinds:
            colour, dashes, marker = style(study, kind)
            shares, low, centre, high = price(kind, name, study.alpha)
            ax.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
            ax.plot(shares, centre, color=colour, linewidth=2, linestyle=dashes, label=kind.name)
            ax.plot(shares[-1:], centre[-1:], marker, color=colour, markersize=7, clip_on=False)
        ax.set_xlim(1, -0.03)
        ax.set_xticks([1, 0.75, 0.5, 0.25, 0], ["all", "3/4", "1/2", "1/4", "none"])
        ax.set_title(PRICES[name], loc="left", fontsize=12, color=plots.INK)
        ax.set_xlabel("exposure left", fontsize=11, color=plots.MUTED)
    _legend(figure, panels[0], width)
    return figure


def price_by_steps(study: Study, width: int = plots.WIDE) -> Figure:
    """For each measure a panel: what is lost, over the steps."""
    names = ("retain_loss", "validation_loss", *study.qualities)
    figure, panels = _panels(len(names), width, 300)
    for ax, name in zip(panels, names, strict=True):
        for kind in study.kinds:
            colour, dashes, _ = style(study, kind)
            rows = _rises(kind.curves[name], name)
            found = [median(column.tolist(), alpha=study.alpha) for column in rows.T]
            low, high = [x.lower for x in found], [x.upper for x in found]
            ax.fill_between(kind.steps, low, high, color=colour, alpha=0.15, linewidth=0)
            centre = [x.estimate for x in found]
            ax.plot(kind.steps, centre, color=colour, linewidth=2, linestyle=dashes, label=kind.name)
        ax.set_title(PRICES[name], loc="left", fontsize=12, color=plots.INK)
        ax.set_xlabel("steps of unlearning", fontsize=11, color=plots.MUTED)
    _legend(figure, panels[0], width)
    return figure


def halves(study: Study, width: int = plots.WIDE) -> Figure:
    """Exposure over the steps of the less and the more memorized, and of the easier and the harder half."""
    names = ("memorization", "difficulty")
    figure, panels = _panels(len(study.kinds) * 2, width, 230, columns=len(study.kinds))
    for ax, (name, kind) in zip(panels, [(n, k) for n in names for k in study.kinds], strict=True):
        for part, colour, dashes in (("low", BLUE, (0, (5, 2))), ("high", ORANGE, "-")):
            _band(ax, kind.steps, kind.bins[f"{part} {name}"][0], colour, dashes, f"{part} half")
        ax.axhline(0, color=plots.INK, linewidth=1)
        ax.set_title(f"{kind.name}, by {name}", loc="left", fontsize=11, color=plots.INK)
    for ax in panels[-len(study.kinds) :]:
        ax.set_xlabel("steps of unlearning", fontsize=11, color=plots.MUTED)
    panels[0].set_ylabel("exposure, bits", fontsize=11, color=plots.MUTED)
    _legend(figure, panels[0], width)
    return figure


def memorization_by_difficulty(study: Study, width: int = plots.WIDE) -> Figure:
    """Each example as a mark: how hard it is unseen, and how much training on it changed."""
    figure, (ax,) = _panels(1, min(width, 760), 420)
    most = 0.0
    for kind in study.kinds:
        colour, _, marker = style(study, kind)
        ax.vlines(
            kind.difficulty, kind.memorization_lower, kind.memorization_upper, color=colour, linewidth=0.8, alpha=0.4
        )
        ax.plot(kind.difficulty, kind.memorization, marker, color=colour, markersize=6, alpha=0.85, label=kind.name)
        most = max(most, *kind.difficulty)
    ax.plot([0, most], [0, most], color=plots.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_xlabel("difficulty: loss unseen, nats per token", fontsize=11, color=plots.MUTED)
    ax.set_ylabel("memorization, nats per token", fontsize=11, color=plots.MUTED)
    _legend(figure, ax, width)
    return figure


def price(kind: KindFound, name: str, alpha: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Shares of exposure left, and the lower limit, median and upper limit over the seeds of what is lost there.

    A seed counts at a share only where its exposure started above 0 and fell so far; a share that not every such seed
    reached is left out.
    """
    exposure = np.array(kind.curves["exposure"].values)
    rows = [(e, r) for e, r in zip(exposure, _rises(kind.curves[name], name), strict=True) if e[0] > 0]
    found, shares = [], []
    for level in LEVELS if rows else ():
        at = [_first(e, level * e[0], r) for e, r in rows]
        if None in at:
            break
        found.append(median([x for x in at if x is not None], alpha=alpha))
        shares.append(level)
    low, centre, high = (np.array([getattr(x, n) for x in found]) for n in ("lower", "estimate", "upper"))
    return np.array(shares), low, centre, high


def _first(exposure: Floats, limit: float, values: Floats) -> float | None:
    """The value where exposure first falls to a limit, interpolated between two measurements."""
    below = np.flatnonzero(exposure <= limit + 1e-12)
    if not len(below):
        return None
    i = int(below[0])
    if i == 0:
        return float(values[0])
    share = (exposure[i - 1] - limit) / (exposure[i - 1] - exposure[i])
    return float(values[i - 1] + share * (values[i] - values[i - 1]))


def _rises(curve: Curve, name: str) -> Floats:
    """What was lost since the start, (seeds, steps): the rise of a loss, the fall of a quality."""
    rows: Floats = np.array(curve.values)
    sign = 1.0 if name.endswith("_loss") else -1.0
    return np.asarray((rows - rows[:, :1]) * sign)


def _band(ax: Axes, steps: Sequence[int], curve: Curve, colour: str, dashes: Any, label: str = "") -> None:
    ax.fill_between(steps, curve.lower, curve.upper, color=colour, alpha=0.18, linewidth=0)
    ax.plot(steps, curve.centre, color=colour, linewidth=2.2, linestyle=dashes, label=label or None)


def _panels(count: int, width: int, height: int, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """Empty panels side by side, or one below the other on a narrow page."""
    from matplotlib.figure import Figure

    across = 1 if width < 700 else columns or count
    down = -(-count // across)
    size = (width / 72, (height * down + 60) / 72)
    figure = Figure(figsize=size, facecolor="none", layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr, call-arg]
    panels: list[Axes] = list(figure.subplots(down, across, squeeze=False).ravel())
    for ax in panels:
        ax.set_facecolor("none")
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(plots.MUTED)
        ax.tick_params(colors=plots.MUTED, labelsize=11)
        ax.grid(axis="y", color=plots.LINE, linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, panels


def _legend(figure: Figure, ax: Axes, width: int) -> None:
    shapes, names = ax.get_legend_handles_labels()
    columns = 2 if width < 700 else 5
    figure.legend(
        shapes, names, loc="outside upper left", ncols=columns, frameon=False, fontsize=11, labelcolor=plots.INK
    )


FIGURES: dict[str, tuple[Callable[[Study, int], Figure], str, str]] = {
    "exposure": (
        exposure_by_steps,
        "Exposure over the steps",
        "Above, against retrained models: 0 is where models stand that never saw the forget set; below 0 its "
        "examples are less likely than if never seen. Below, among held-out examples of the same kind: an example "
        "that was never seen is on the line or under it on average. Thick: the median over the seeds, with its "
        "interval as a band, step by step. Thin: each seed.",
    ),
    "price": (
        price_by_exposure,
        "What unlearning costs",
        "From left to right the exposure goes away; what is lost meanwhile is upwards. Lines end with a mark where the "
        "retrained models' exposure is reached. Bands: interval of the median over the seeds.",
    ),
    "decay": (
        price_by_steps,
        "What is lost, step by step",
        "The same losses over the steps of unlearning, whatever the exposure is by then.",
    ),
    "halves": (
        halves,
        "By memorization and difficulty",
        "Each forget set in two halves: the examples that models had memorized less and more, and those that were "
        "easier and harder for models that never saw them. The halves of a seed come from the other seeds' models.",
    ),
    "scatter": (
        memorization_by_difficulty,
        "Memorization and difficulty of each example",
        "To the right: harder for models that never saw it. Upwards: more likely if trained on. On the dashed line an "
        "example is known by heart, as nothing of its loss is left. Thin bars: bootstrap over models, no guarantee.",
    ),
}
"""Name -> figure, title and caption."""
