"""The distribution study for its readers: a web page that needs no paper beside it, and a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from leakbound.report import style as plots
from leakbound.report.page import template
from leakbound.studies.distribution.corpora import INSIDE, MEANINGS
from leakbound.studies.distribution.figures import FIGURES
from leakbound.studies.distribution.tables import sections
from leakbound.wording import brief, markdown_cell

if TYPE_CHECKING:
    from rich.console import Group

    from leakbound.studies.distribution.courses import Finding, Reached
    from leakbound.studies.distribution.findings import Study

TITLE = "Unlearning inside and outside the training distribution"
CLAIMS = {
    "steps": "examples outside the distribution need more steps",
    "trade-off": "once unlearned, they have cost less",
    "decay": "after as many steps as the in-distribution set needs, they have cost less: it decays faster",
}
DEFINITIONS = (
    ("Original", "a model trained on the base corpus and the forget set."),
    ("Retrained", "a model trained on the base corpus alone: it never saw any forget set."),
    (
        "Exposure (GenEx)",
        "how much likelier the unlearned model makes an example than retrained models do, in bits: log2 of the "
        "ratio. 0: as if never seen. In curves and steps the retrained models' log-likelihoods are averaged; "
        "“likelihood mean” averages the likelihoods, which the largest of them dominates.",
    ),
    ("Exposure against the original (RelEx a)", "the same against the original: 0 at first, then negative."),
    (
        "Exposure among held-out examples (RelEx b)",
        "-log2 of the share of unseen examples of the same kind that the same model finds at least as likely. An "
        "unseen example has 1.44 bits or less on average.",
    ),
    (
        "Exposure among candidates",
        "-log2 of the share of other answers of the same format that the model finds at least as likely, the "
        "example's own included (Carlini et al.).",
    ),
    ("Retained", "examples of the base corpus, which the model is to keep."),
    ("Unseen", "examples of the same kind as the corpus that no model was trained on."),
    (
        "Memorization",
        "log-likelihood of an example under models trained on it minus that under models not trained on it, per token.",
    ),
    ("Difficulty", "the loss of an example under models that were not trained on it, per token."),
    ("Learning speed", "the first epoch after which the model says the example right, word by word."),
)  # fmt: skip


def sentences(study: Study) -> Iterator[str]:
    """What was found, in words."""
    config = study.config
    inside = next(k for k in study.kinds if k.name == INSIDE)
    yield (
        f"{config['seeds']} original models of each kind unlearned {config['forget_size']} examples each by "
        f"{config['method']}. The in-distribution sets reached the exposure of models that never saw them after "
        f"{_steps(inside.reached, study)}; " + ", ".join(
            f"{kind.name} after {_steps(kind.reached, study)}" for kind in study.kinds if kind is not inside
        ) + "."
    )  # fmt: skip
    for claim, text in CLAIMS.items():
        parts = [f"{f.kind}: {_said(f, study)}" for f in study.findings if f.claim == claim]
        yield f"Claim of the paper: {text}. {_capital('; '.join(parts))}."
    yield (
        "Verdicts are exact sign tests over the seeds, all of them right together with confidence "
        f"{1 - study.alpha:g} in each direction (Holm). {_power(study)}They speak about these models, these data and "
        "this learning rate."
    )


def to_html(study: Study) -> str:
    """The study as one self-contained page."""
    figures = []
    for name, (draw, title, caption) in FIGURES.items():
        wide = plots.svg(draw(study, plots.WIDE), f"{name}-wide", title)
        narrow = plots.svg(draw(study, plots.NARROW), f"{name}-narrow", title)
        figures.append({"title": title, "caption": caption, "wide": wide, "narrow": narrow})
    facts = [(name, brief(str(value), 120)) for name, value in study.config.items()]
    return template("distribution.html.j2").render(
        title=TITLE, sentences=list(sentences(study)), kinds=[(k.name, MEANINGS[k.name]) for k in study.kinds],
        definitions=DEFINITIONS, figures=figures, tables=sections(study), facts=facts, config=study.config,
    )  # fmt: skip


def to_markdown(study: Study) -> str:
    """The study as Markdown, with its first two figures beside it (exposure.svg, price.svg)."""
    lines = [f"# {TITLE}", "", *(f"{markdown_cell(text, 2000)}\n" for text in sentences(study))]
    for name in FIGURE_FILES:
        _, title, caption = FIGURES[name]
        lines += [f"## {title}", "", caption, "", f"![{title}]({name}.svg)", ""]
    for section in sections(study):
        lines += [f"## {section.title}", "", section.note, "", "| " + " | ".join(section.head) + " |"]
        lines += ["|" + " --- |" * len(section.head)]
        lines += ["| " + " | ".join(markdown_cell(cell, 200) for cell in row) + " |" for row in section.rows]
        lines += [""]
    return "\n".join(lines)


FIGURE_FILES = ("exposure", "price")
"""The figures that are files beside the Markdown page."""


def table(study: Study) -> Group:
    """The study for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text("\n".join(sentences(study)))]
    for section in sections(study):
        grid = Table(title=section.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for i, name in enumerate(section.head):
            grid.add_column(name, justify="right" if i else "left")
        for row in section.rows:
            grid.add_row(*(Text(cell) for cell in row))
        parts += [grid, Text(section.note, style="dim")]
    return Group(*parts)


def _said(found: Finding, study: Study) -> str:
    """A verdict with the count of seeds it rests on."""
    n, verdict = len(found.differences), found.verdict(study.alpha)
    favour, against = sum(x > 0 for x in found.differences), sum(x < 0 for x in found.differences)
    if verdict == "holds":
        return f"holds here ({favour} of {n} seeds)"
    if verdict == "opposite":
        return f"the opposite holds here ({against} of {n} seeds)"
    return f"not decided (so in {favour} of {n} seeds, the opposite in {against})"


def _steps(found: Reached, study: Study) -> str:
    middle = found.steps_median.estimate
    if math.isinf(middle):
        return f"more than {study.config['unlearn_steps']} steps"
    return f"{middle:.1f} steps"


def _power(study: Study) -> str:
    """Says where the seeds are too few for any verdict."""
    least = 2.0 ** -int(study.config["seeds"]) * max(1, len(study.findings))
    if least <= study.alpha:
        return ""
    return (
        f"With {study.config['seeds']} seeds and {len(study.findings)} findings none can be decided, even where all "
        f"seeds agree (adjusted p {least:.3f} at best): the column “seeds in favour” says what was seen. "
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
