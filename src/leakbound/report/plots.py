"""Figures of an audit: greedy against sampled, and the survival curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leakbound.bounds.result import SurvivalBand, show_confidence
from leakbound.report.findings import Findings, find
from leakbound.report.parts import LABELS, PAGE_ROWS, Tone
from leakbound.report.rows import Row
from leakbound.report.style import COLOURS, INK, MARKERS, MUTED, NARROW, WIDE, canvas, plain
from leakbound.results.audit import Audit
from leakbound.wording import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1)
_STATUSES: tuple[Tone, ...] = ("hidden", "plain", "seen", "guessed", "unseen")
_OPEN = ("guessed", "unseen")
"""Their marks are not filled."""


def figures(audit: Audit, *, guess: Audit | None = None) -> dict[str, Figure]:
    """The report's figures by name: ``greedy_vs_sampled`` and ``survival``."""
    found = find(audit, guess)
    return {"greedy_vs_sampled": greedy_vs_sampled(found, legend=True), "survival": survival(found)}


def _probabilities(ax: Axes) -> None:
    """A square-root scale from 0 to 1: rare leaks can be seen beside certain ones, and zero is on it."""
    forward, back = (lambda p: np.sqrt(np.clip(p, 0, None))), np.square
    ax.set_yscale("function", functions=(forward, back))
    ax.set_ylim(0, 1.03)
    ax.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    ax.minorticks_off()


def _lay_out(found: Findings) -> list[tuple[Row, float]]:
    """The rows side by side, grouped by status with a gap between the groups."""
    places, x = [], 0.0
    shown = found.shortlist(PAGE_ROWS)
    gap = max(1.0, len(shown) / 40)
    for status in _STATUSES:
        group = [row for row in shown if row.status == status]
        places += [(row, x + i) for i, row in enumerate(group)]
        x += len(group) + gap if group else 0
    return places


def greedy_vs_sampled(found: Findings, width: int = WIDE, *, legend: bool = False) -> Figure:
    """Each prompt as a column: above, the score of its greedy answer; below, P(leak) when sampled.

    The bars reach up to the bound at the level at which all prompts' bounds hold together. A dash is the guess level:
    how often a model that never saw the secret says it.
    """
    places = _lay_out(found)
    span = max(x for _, x in places) + 1
    pixels = min((width - 80) / max(span, 3), 60)
    size = float(np.clip(pixels * 0.55, 1.6, 9))
    small = width < 700
    font = 11 if small else 12.5
    fig = canvas(width, 470 if small else 480)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(1, 2.3))
    for ax in (top, bottom):
        plain(ax, font)
    threshold = found.audit.threshold
    top.axhline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    top.set_ylim(-0.08, 1.1)
    top.set_yticks([0, threshold, 1], ["0", f"{threshold:g}", "1"])
    top.tick_params(axis="x", length=0)
    above = (
        "Asked once: score, leak from the dashes up" if small else "Asked once (greedy): score, leak from the dashes up"
    )
    confidence = show_confidence(found.audit.alpha)
    below = f"Sampled: leaks observed; bound, {confidence} for all"
    if not small:
        below = f"Sampled: observed share of leaks; bar: bound on P(leak), all at once with confidence {confidence}"
    top.set_title(above, loc="left", fontsize=font, color=INK)
    bottom.set_title(below, loc="left", fontsize=font, color=INK)
    _probabilities(bottom)
    for status in _STATUSES:
        if group := [(row.result, x) for row, x in places if row.status == status]:
            _columns(top, bottom, status, group, size, pixels)
    if not found.audit.asked_once:
        top.text(0.5, 0.5, "not known", transform=top.transAxes, ha="center", va="center", fontsize=font, color=MUTED)
    if guessed := [(row.guess.leak.estimate, x) for row, x in places if row.guess]:
        level, x = np.array(guessed).T
        half = min(0.46, 9 / pixels)
        bottom.hlines(level, x - half, x + half, color=INK, linewidth=2 if pixels > 8 else 1.4, zorder=4)
    bottom.set_xlim(-0.8 - 0.02 * span, max(span, 3) - 0.2 + 0.02 * span)
    _name_columns(bottom, places, pixels, font)
    if legend:
        _legend(fig, found)
    return fig


def _legend(fig: Figure, found: Findings) -> None:
    from matplotlib.lines import Line2D

    shapes, names = [], []
    for status in found.meanings:
        face = "none" if status in _OPEN else COLOURS[status]
        shapes.append(
            Line2D([], [], linestyle="none", marker=MARKERS[status], color=COLOURS[status], markerfacecolor=face)
        )
        names.append(f"{LABELS[status]} ({len(found.of(status))})")
    if found.guess is not None:
        shapes.append(Line2D([], [], color=INK, linewidth=2))
        names.append("guess level (observed)")
    fig.legend(shapes, names, loc="outside upper left", ncols=4, frameon=False, fontsize=12, labelcolor=INK)


def _columns(top: Axes, bottom: Axes, status: Tone, group: Sequence[Any], size: float, pixels: float) -> None:
    results, x = [result for result, _ in group], np.array([x for _, x in group])
    style: dict[str, Any] = {
        "linestyle": "none",
        "marker": MARKERS[status],
        "markersize": size,
        "color": COLOURS[status],
        "markerfacecolor": "none" if status in _OPEN else COLOURS[status],
        "markeredgewidth": 1.4 if pixels > 8 else 0.7,
        "clip_on": False,
    }
    low = np.array([p.leak_jointly.lower for p in results])
    high = np.array([p.leak_jointly.upper for p in results])
    wide = float(np.clip(pixels * 0.16, min(0.8, pixels * 0.4), 4))
    bottom.vlines(x, low, high, color=COLOURS[status], linewidth=wide, alpha=0.4, zorder=2)
    bottom.plot(x, high, "_", color=COLOURS[status], markersize=min(pixels * 0.5, 9), markeredgewidth=min(wide, 1.6))
    bottom.plot(x, [p.leak.estimate for p in results], **style, zorder=3)
    known = [(at, p.greedy_score) for at, p in zip(x, results, strict=True) if p.greedy_score is not None]
    if known:
        top.plot(*zip(*known, strict=True), **style, zorder=3)


def _name_columns(ax: Axes, places: Sequence[tuple[Row, float]], pixels: float, font: float) -> None:
    if pixels < 50 or len(places) > 12:
        ax.set_xticks([])
        ax.set_xlabel("one column for each prompt, worst of each kind first", fontsize=font, color=MUTED)
        return
    names = [brief(row.result.prompt.id, 18) for row, _ in places]
    ax.set_xticks([x for _, x in places], names, rotation=30, ha="right", rotation_mode="anchor", parse_math=False)


def worst_rows(found: Findings, limit: int = 8) -> tuple[Row, ...]:
    """The prompts worth a closer look: hidden leaks, with 2/5 of the places for open ones, or the closest calls."""
    hidden, plain = found.of("hidden", "seen"), found.of("plain")
    first = hidden[: max(limit - len(plain), limit - limit * 2 // 5)]
    return (first + plain[: limit - len(first)]) or found.rows[:3]


def survival(found: Findings) -> Figure:
    """P(h > x) of the average prompt as observed, and of the worst ones, each with a band that holds by itself."""
    rows = worst_rows(found, 5)
    fig = canvas(WIDE, 260 * (1 + len(rows) // 3))
    panels = fig.subplots(1 + len(rows) // 3, 3, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in panels[len(rows) + 1 :]:
        ax.set_visible(False)
    _average(panels[0], found)
    panels[0].set_title("the average prompt (observed)", loc="left", fontsize=12, color=INK)
    for ax, row in zip(panels[1:], rows, strict=False):
        _survival(ax, row, found.audit.threshold)
        name = f"{brief(row.result.prompt.id, 24)}: {LABELS[row.status]}"
        ax.set_title(name, loc="left", fontsize=12, color=INK, parse_math=False)
    return fig


def survival_panel(found: Findings, row: Row | None, width: int = NARROW) -> Figure:
    """The survival curve of one prompt, or of the average prompt for None."""
    fig = canvas(width, 220)
    ax = fig.subplots()
    if row is None:
        _average(ax, found)
    else:
        _survival(ax, row, found.audit.threshold)
    return fig


def _axes(ax: Axes, threshold: float) -> None:
    plain(ax, 11)
    _probabilities(ax)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    ax.set_xlabel("score x", fontsize=11, color=MUTED)
    ax.set_ylabel("P(score > x)", fontsize=11, color=MUTED)
    ax.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)


def _curve(band: SurvivalBand) -> tuple[Any, Any]:
    """The observed curve, a right-continuous step from 0 to 1."""
    return np.append(band.thresholds, 1.0), np.append(band.estimate, 0.0)


def _survival(ax: Axes, row: Row, threshold: float) -> None:
    _axes(ax, threshold)
    colour, band = COLOURS[row.status], row.result.survival
    edges = np.append(band.thresholds, 1.0)
    x = np.repeat(edges, 2)[1:-1]
    high = np.repeat(band.upper, 2)  # between two thresholds the bound is that of the left one ...
    low = np.repeat(np.append(band.lower[1:], 0.0), 2)  # ... and from below that of the right one
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(x, high, color=colour, linewidth=1)
    ax.step(*_curve(band), where="post", color=colour, linewidth=2.2)
    if row.guess is not None:
        ax.step(*_curve(row.guess.survival), where="post", color=INK, linewidth=1.4, linestyle=(0, (1, 1.5)))


def _average(ax: Axes, found: Findings) -> None:
    _axes(ax, found.audit.threshold)
    ax.step(*average_curve(found.audit), where="post", color=INK, linewidth=2.2)
    if found.guess is not None:
        ax.step(*average_curve(found.guess), where="post", color=INK, linewidth=1.4, linestyle=(0, (1, 1.5)))


def average_curve(audit: Audit) -> tuple[Any, Any]:
    """The average over the prompts of the observed P(h > x), as a step function; an estimate without a band."""
    grid = np.unique(np.concatenate([p.survival.thresholds for p in audit.prompts]))
    total = np.zeros_like(grid)
    for p in audit.prompts:
        place = np.searchsorted(p.survival.thresholds, grid, side="right")
        total += np.append(1.0, p.survival.estimate)[place]
    return np.append(grid, 1.0), np.append(total / len(audit.prompts), 0.0)
