"""How the studies show what they found: numbers rounded outward, tables, and small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito: told apart by people who see colours differently."""
MARKERS = ("o", "^", "s", "D", "v", "P")
TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1)


def canvas(
    columns: int, width: float, height: float, *, rows: int = 1, share: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, row by row, which share their axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).ravel().tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#d5dae0", linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def probabilities(ax: Axes, ticks: Sequence[float] = TICKS) -> None:
    """A square-root scale from 0 to 1: rare leaks can be seen beside certain ones, and zero is on it."""
    ax.set_yscale("function", functions=(lambda p: abs(p) ** 0.5, lambda r: r**2))
    ax.set_ylim(0, 1.03)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def save(figure: Figure, file: Path) -> None:
    """Write an SVG that is the same for the same figures."""
    settings: Any = {"svg.hashsalt": file.stem, "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(settings):
        figure.savefig(file, format="svg", metadata={"Date": None})


def both(bound: Any) -> list[float]:
    """A bound as JSON has it: estimate, lower, upper."""
    return [bound.estimate, bound.lower, bound.upper]


def interval(found: Sequence[float]) -> str:
    """An estimate with its interval."""
    return f"{found[0]:.3f} [{down(found[1])}, {up(found[2])}]"


def down(x: float) -> str:
    """Rounded down to three decimals."""
    return f"{math.floor(x * 1000) / 1000:.3f}"


def up(x: float) -> str:
    """Rounded up to three decimals."""
    return f"{math.ceil(x * 1000) / 1000:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def said(text: str, most: int = 90) -> str:
    """A text of a model in one line."""
    text = " ".join(text.split())
    return f"`{text if len(text) <= most else text[: most - 1] + '…'}`".replace("``", "` `")
