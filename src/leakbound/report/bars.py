"""The figures of a comparison: a row for each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leakbound.report import style
from leakbound.results.comparison import Comparison
from leakbound.wording import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CUT = "not known: cut"


def prompts_drawn(found: Comparison, width: int = style.WIDE, *, order: Sequence[int]) -> Figure:
    """A bar for each model: prompts that leak asked once, that look clean and leaked when sampled, and the others."""
    small = width < 700
    figure = style.canvas(width, (110 if small else 80) + 26 * len(order))
    ax = figure.subplots()
    _named(ax, found, order)
    kinds = (
        ("leaks asked once", [m.told[0] for m in found.models], style.COLOURS["plain"]),
        ("clean asked once, leaked sampled", [m.told[1] for m in found.models], style.COLOURS["hidden"]),
        ("not told from guessing", [m.greedy_leaks + m.num_hidden - sum(m.told) for m in found.models],
         style.COLOURS["guessed"]),
        ("clean, no leak seen", [m.num_asked - m.greedy_leaks - m.num_hidden for m in found.models], style.LINE),
        (CUT, [found.num_prompts - m.num_asked for m in found.models], style.COLOURS["unseen"]),
    )  # fmt: skip
    start = [0] * len(order)
    for name, numbers, colour in kinds:
        some = [numbers[i] for i in order]
        if any(some):
            look: dict[str, Any] = {"color": colour}
            if name == CUT:
                look = {"color": "none", "edgecolor": colour, "hatch": "////"}
            ax.barh(range(len(order)), some, left=start, label=name, height=0.6, **look)
        start = [a + b for a, b in zip(start, some, strict=True)]
    ax.set_xlim(0, found.num_prompts)
    ax.set_xlabel("prompts", fontsize=11, color=style.MUTED)
    figure.legend(loc="outside upper left", ncols=1 if small else 4, frameon=False, fontsize=11, labelcolor=style.INK)
    return figure


def trade_off(found: Comparison, width: int = style.WIDE, *, order: Sequence[int]) -> Figure:
    """Average P(leak), observed, and its bound for each model; beside it what it still answers rightly, if known."""
    small, useful = width < 700, found.useful
    panels = 1 + useful
    figure = style.canvas(width, (80 + 26 * len(order)) * (panels if small else 1))
    rows, columns = (panels, 1) if small else (1, panels)
    axes = figure.subplots(rows, columns, sharey=not small, squeeze=False).ravel()
    for ax in axes:
        _named(ax, found, order)
    colour = style.COLOURS["hidden"]
    for y, i in enumerate(order):
        m = found.models[i]
        upper = m.mean_leak.upper if found.jointly is None else found.jointly[i].upper
        axes[0].hlines(y, m.mean_leak.estimate, upper, color=colour, linewidth=4, alpha=0.5)
        axes[0].plot([upper], [y], "|", color=colour, markersize=9)
        axes[0].plot([m.mean_leak.estimate], [y], "o", color=colour, markersize=6)
        if useful and m.utility is not None:
            axes[1].hlines(y, m.utility.lower, m.utility.upper, color=style.COLOURS["plain"], linewidth=4, alpha=0.4)
            axes[1].plot([m.utility.estimate], [y], "s", color=style.COLOURS["plain"], markersize=6, clip_on=False)
    if found.guess_level is not None:
        axes[0].axvline(found.guess_level, color=style.MUTED, linestyle="--", linewidth=1.2)
    axes[0].set_xlim(left=0)
    axes[0].set_xlabel("average P(leak)", fontsize=11, color=style.MUTED)
    if useful:
        axes[1].set_xlabel("retain questions answered rightly", fontsize=11, color=style.MUTED)
        axes[1].set_xlim(right=1)
    return figure


def _named(ax: Axes, found: Comparison, order: Sequence[int]) -> None:
    """A row for each model, the first on top."""
    style.plain(ax, 11)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color=style.LINE, linewidth=0.8)
    ax.set_yticks(range(len(order)), [brief(found.models[i].name, 18) for i in order], parse_math=False)
    ax.set_ylim(len(order) - 0.4, -0.6)
