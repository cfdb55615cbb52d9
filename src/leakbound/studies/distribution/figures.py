"""Figures of the distribution study. Colour, line and marker say the same; wide and narrow pages get their own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from leakbound.bounds.gate import Floats
from leakbound.report import style
from leakbound.report.parts import Picture
from leakbound.studies.distribution.corpora import INSIDE
from leakbound.studies.distribution.courses import Curve, crossing, sign
from leakbound.studies.distribution.findings import PRICES, KindFound, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORANGE, BLUE, GREY = style.COLOURS["hidden"], style.COLOURS["plain"], style.COLOURS["unseen"]
STYLES: tuple[tuple[str, Any, str], ...] = (
    (BLUE, (0, (5, 2)), "s"),
    (style.INK, (0, (1, 1.5)), "^"),
    (GREY, (0, (6, 2, 1, 2)), "D"),
    (BLUE, (0, (1, 1)), "v"),
)
"""Colour, dashes and marker of the kinds outside the distribution; inside it is an orange line with circles."""
UNSEEN = float(np.log2(np.e))
"""Bits: the mean exposure among held-out examples of an example that was never seen, at most."""
LEVELS = np.linspace(1, 0, 21)
"""Shares of the first exposure at which the price is read."""


def marks(study: Study, kind: KindFound) -> tuple[str, Any, str]:
    """A kind's colour, dashes and marker."""
    if kind.name == INSIDE:
        return ORANGE, "-", "o"
    others = [k.name for k in study.kinds if k.name != INSIDE]
    return STYLES[others.index(kind.name) % len(STYLES)]


def exposure_by_steps(study: Study, width: int = style.WIDE) -> Figure:
    """A panel for each kind and measure of exposure in bits over the steps: each seed, and the median with its band."""
    names = {"exposure": "against retrained models", "relex_heldout": "among held-out examples"}
    figure, panels = _panels(len(study.kinds) * len(names), width, 230, columns=len(study.kinds))
    for ax, (name, kind) in zip(panels, [(n, k) for n in names for k in study.kinds], strict=True):
        colour, dashes, _ = marks(study, kind)
        curve = kind.curves[name]
        for row in curve.values:
            ax.plot(kind.steps, row, color=colour, linewidth=0.7, alpha=0.45)
        _band(ax, kind.steps, curve, colour, dashes)
        ax.axhline(0 if name == "exposure" else UNSEEN, color=style.INK, linewidth=1)
        _name(ax, f"{kind.name}, {names[name]}")
    for ax in panels[-len(study.kinds) :]:
        _name(ax, x="steps of unlearning")
    for ax in panels[:: len(study.kinds)]:
        _name(ax, y="exposure, bits")
    return figure


def price_by_exposure(study: Study, width: int = style.WIDE) -> Figure:
    """For each measure a panel: what is lost, against the share of the first exposure that is left."""
    figure, panels = _panels(len(study.measures), width, 300)
    for ax, name in zip(panels, study.measures, strict=True):
        for kind in study.kinds:
            colour, dashes, marker = marks(study, kind)
            shares, found = price(kind, name, study.config.alpha)
            _band(ax, shares, found, colour, dashes, kind.name)
            ax.plot(shares[-1:], found.centre[-1:], marker, color=colour, markersize=7, clip_on=False)
        ax.set_xlim(1, -0.03)
        ax.set_xticks([1, 0.75, 0.5, 0.25, 0], ["all", "3/4", "1/2", "1/4", "none"])
        _name(ax, PRICES[name], x="exposure left")
    _legend(figure, panels[0], width)
    return figure


def price_by_steps(study: Study, width: int = style.WIDE) -> Figure:
    """For each measure a panel: what is lost, over the steps."""
    figure, panels = _panels(len(study.measures), width, 300)
    for ax, name in zip(panels, study.measures, strict=True):
        for kind in study.kinds:
            colour, dashes, _ = marks(study, kind)
            _band(ax, kind.steps, Curve.of(_lost(kind, name), study.config.alpha), colour, dashes, kind.name)
        _name(ax, PRICES[name], x="steps of unlearning")
    _legend(figure, panels[0], width)
    return figure


def halves(study: Study, width: int = style.WIDE) -> Figure:
    """Exposure over the steps of the less and the more memorized, and of the easier and the harder half."""
    names = ("memorization", "difficulty")
    figure, panels = _panels(len(study.kinds) * 2, width, 230, columns=len(study.kinds))
    for ax, (name, kind) in zip(panels, [(n, k) for n in names for k in study.kinds], strict=True):
        for part, colour, dashes in (("low", BLUE, (0, (5, 2))), ("high", ORANGE, "-")):
            _band(ax, kind.steps, kind.bins[f"{part} {name}"][0], colour, dashes, f"{part} half")
        ax.axhline(0, color=style.INK, linewidth=1)
        _name(ax, f"{kind.name}, by {name}")
    for ax in panels[-len(study.kinds) :]:
        _name(ax, x="steps of unlearning")
    _name(panels[0], y="exposure, bits")
    _legend(figure, panels[0], width)
    return figure


def memorization_by_difficulty(study: Study, width: int = style.WIDE) -> Figure:
    """Each example as a mark: how hard it is unseen, and how much training on it changed."""
    figure, (ax,) = _panels(1, min(width, 760), 420)
    most = 0.0
    for kind in study.kinds:
        colour, _, marker = marks(study, kind)
        ax.vlines(
            kind.difficulty, kind.memorization_lower, kind.memorization_upper, color=colour, linewidth=0.8, alpha=0.4
        )
        ax.plot(kind.difficulty, kind.memorization, marker, color=colour, markersize=6, alpha=0.85, label=kind.name)
        most = max(most, *kind.difficulty)
    ax.plot([0, most], [0, most], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    _name(ax, x="difficulty: loss unseen, nats per token", y="memorization, nats per token")
    _legend(figure, ax, width)
    return figure


def price(kind: KindFound, name: str, alpha: float) -> tuple[list[float], Curve]:
    """Shares of exposure left, and over the seeds what is lost there.

    A seed counts at a share only where its exposure started above 0 and fell so far; a share that not every such seed
    reached is left out.
    """
    exposure = np.array(kind.curves["exposure"].values)
    rows = [(e, r) for e, r in zip(exposure, _lost(kind, name), strict=True) if e[0] > 0]
    found: list[list[float]] = []
    for level in LEVELS if rows else ():
        places = [crossing(e, level * e[0] + 1e-12) for e, _ in rows]
        at = [np.interp(x, range(len(r)), r) for x, (_, r) in zip(places, rows, strict=True) if x is not None]
        if len(at) < len(rows):
            break
        found.append([float(x) for x in at])
    return LEVELS[: len(found)].tolist(), Curve.of(np.array(found).T, alpha)


def _lost(kind: KindFound, name: str) -> Floats:
    """What was lost since the start, (seeds, steps)."""
    rows = np.array(kind.curves[name].values)
    return np.asarray((rows - rows[:, :1]) * sign(name))


def _band(ax: Axes, x: Sequence[float], curve: Curve, colour: str, dashes: Any, label: str = "") -> None:
    ax.fill_between(x, curve.lower, curve.upper, color=colour, alpha=0.15, linewidth=0)
    ax.plot(x, curve.centre, color=colour, linewidth=2.2, linestyle=dashes, label=label or None)


def _panels(count: int, width: int, height: int, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """Empty panels side by side, or one below the other on a narrow page."""
    across = 1 if width < 700 else columns or count
    down = -(-count // across)
    figure = style.canvas(width, height * down + 60)
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr, call-arg]
    panels: list[Axes] = list(figure.subplots(down, across, squeeze=False).ravel())
    for ax in panels:
        style.plain(ax, 11)
    return figure, panels


def _name(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    if title:
        ax.set_title(title, loc="left", fontsize=11, color=style.INK)
    if x:
        ax.set_xlabel(x, fontsize=11, color=style.MUTED)
    if y:
        ax.set_ylabel(y, fontsize=11, color=style.MUTED)


def _legend(figure: Figure, ax: Axes, width: int) -> None:
    shapes, names = ax.get_legend_handles_labels()
    columns = 2 if width < 700 else 5
    figure.legend(
        shapes, names, loc="outside upper left", ncols=columns, frameon=False, fontsize=11, labelcolor=style.INK
    )


FIGURES: tuple[tuple[Callable[[Study, int], Figure], str, str, str], ...] = (
    (
        exposure_by_steps,
        "exposure",
        "Exposure over the steps",
        "Above, against retrained models: 0 is where models stand that never saw the forget set; below 0 its "
        "examples are less likely than if never seen. Below, among held-out examples of the same kind: an example "
        "that was never seen is on the line or under it on average. Thick: the median over the seeds, with its "
        "interval as a band, step by step. Thin: each seed.",
    ),
    (
        price_by_exposure,
        "price",
        "What unlearning costs",
        "From left to right the exposure goes away; what is lost meanwhile is upwards. Lines end with a mark where the "
        "retrained models' exposure is reached. Bands: interval of the median over the seeds.",
    ),
    (
        price_by_steps,
        "decay",
        "What is lost, step by step",
        "The same losses over the steps of unlearning, whatever the exposure is by then.",
    ),
    (
        halves,
        "halves",
        "By memorization and difficulty",
        "Each forget set in two halves: the examples that models had memorized less and more, and those that were "
        "easier and harder for models that never saw them. The halves of a seed come from the other seeds' models.",
    ),
    (
        memorization_by_difficulty,
        "scatter",
        "Memorization and difficulty of each example",
        "To the right: harder for models that never saw it. Upwards: more likely if trained on. On the dashed line an "
        "example is known by heart, as nothing of its loss is left. Thin bars: bootstrap over models, no guarantee.",
    ),
)


def pictures(study: Study) -> tuple[Picture, ...]:
    """The figures of a page, in its order."""
    return tuple(Picture(name, title, partial(draw, study), caption) for draw, name, title, caption in FIGURES)
