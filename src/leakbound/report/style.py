"""How figures look, and how they stand on a page. matplotlib, no global state of pyplot.

Colours are told apart by people who see colours differently (Okabe and Ito), and shape says the same as colour.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from leakbound.wording import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1b1e23", "#626a75", "#d5dae0"
COLOURS: dict[str, str] = {
    "hidden": "#d55e00",
    "plain": "#0072b2",
    "seen": "#d55e00",
    "guessed": "#7b8794",
    "unseen": "#7b8794",
}
MARKERS: dict[str, str] = {"hidden": "^", "plain": "s", "seen": "D", "guessed": "D", "unseen": "o"}
THEMED = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    COLOURS["hidden"]: "hidden",
    COLOURS["plain"]: "plain",
    COLOURS["unseen"]: "unseen",
}
WIDE, NARROW = 1080, 350
"""The widths at which a page draws each picture, in pixels: for a desk and for a telephone."""


def canvas(width: int, height: int) -> Figure:
    """An empty figure of so many pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), facecolor="none", layout="constrained")


def plain(ax: Axes, size: float = 12) -> None:
    """Axes as all our figures have them: no box, a light grid."""
    ax.set_facecolor("none")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelsize=size, width=0.8)
    ax.grid(axis="y", color=LINE, linewidth=0.8)
    ax.set_axisbelow(True)


def svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an ``<svg>`` element for a web page: it scales, text stays text, colours follow the page's theme.

    ``name`` makes its ids differ from those of every other figure on the page.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    family = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": ["sans-serif"]}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the glyph
        sheet: Any = FigureCanvasSVG(figure)
        sheet.print_svg(out, metadata={"Date": None})  # savefig() lays out and draws everything twice
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"<svg[^>]*viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1">', text, count=1)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', text)
    for colour, variable in THEMED.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    text = text.replace("'sans-serif'", ", ".join(f"'{f}'" if " " in f else f for f in family))
    safe = visible(title).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{safe}" ', 1)
