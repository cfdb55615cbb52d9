"""The distribution study for its readers: one document, whose page needs no paper beside it."""

import io
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from leakbound.bounds.result import show_confidence
from leakbound.report.document import to_html, to_markdown
from leakbound.report.parts import Document, Section, Small, Table, Terms
from leakbound.report.style import WIDE
from leakbound.runs.files import write_text
from leakbound.studies.distribution.config import DistributionConfig
from leakbound.studies.distribution.corpora import INSIDE, MEANINGS
from leakbound.studies.distribution.courses import Finding, Reached
from leakbound.studies.distribution.figures import pictures
from leakbound.studies.distribution.findings import Study
from leakbound.studies.distribution.tables import CLAIMS, tables
from leakbound.wording import brief

TITLE = "Unlearning inside and outside the training distribution"
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
)
SOURCE = (
    "The study follows arXiv 2411.04388, of which the abstract and a summary were read. Exposure against retrained "
    "models is in the spirit of its GenEx; the definitions here are leakbound's own where the paper could not be read."
)
FIGURE_FILES = ("exposure", "price")
"""The figures that are files beside the Markdown page."""


def sentences(study: Study) -> Iterator[str]:
    """What was found, in words."""
    config, alpha = study.config, study.config.alpha
    inside = next(k for k in study.kinds if k.name == INSIDE)
    yield (
        f"{config.seeds} original models of each kind unlearned {config.forget_size} examples each by "
        f"{config.method}. The in-distribution sets reached the exposure of models that never saw them after "
        f"{_steps(inside.reached, study)}; " + ", ".join(
            f"{kind.name} after {_steps(kind.reached, study)}" for kind in study.kinds if kind is not inside
        ) + "."
    )  # fmt: skip
    for claim, (_, text) in CLAIMS.items():
        found = "; ".join(f"{f.kind}: {_said(f, study)}" for f in study.findings if f.claim == claim)
        yield f"Claim of the paper: {text}. {found[:1].upper()}{found[1:]}."
    yield (
        "Verdicts are exact sign tests over the seeds, all of them right together with confidence "
        f"{show_confidence(alpha)} in each direction (Holm). {_power(study)}They speak about these models, these data "
        "and this learning rate."
    )


def document(study: Study) -> Document:
    """The study for every medium: its verdicts, figures and tables; what was done and the words only on the page."""
    figures = (Section(picture.title, (picture,)) for picture in pictures(study))
    kinds = Terms(tuple((kind.name, MEANINGS[kind.name]) for kind in study.kinds))
    settings = tuple((name, brief(str(value), 120)) for name, value in asdict(study.config).items())
    return Document(
        TITLE,
        tuple(sentences(study)),
        (
            Section("What was done", (_done(study.config), kinds), on=("page",)),
            *figures,
            Section("", tables(study)),
            Section("Words", (Terms(DEFINITIONS), Small(SOURCE)), on=("page",)),
            Section("Settings", (Table((), settings, left=(0, 1)),), on=("page",)),
        ),
        made="leakbound study distribution",
        footer="Every training is kept in the study's folder; more seeds or kinds add to it.",
    )  # fmt: skip


def save(study: Study) -> Path:
    """Write study.json, report.html, report.md and its figures into the study's folder; returns the page."""
    import matplotlib as mpl  # here, because it takes long

    folder, shown = study.config.out, document(study)
    study.save(folder)
    write_text(folder / "report.md", to_markdown(shown, pictures=FIGURE_FILES))
    for picture in pictures(study):
        if picture.name in FIGURE_FILES:
            out = io.StringIO()
            with mpl.rc_context({"svg.hashsalt": picture.name}):  # ids are random otherwise
                picture.draw(WIDE).savefig(out, format="svg", facecolor="white", metadata={"Date": None})
            write_text(folder / f"{picture.name}.svg", out.getvalue())
    write_text(folder / "report.html", to_html(shown))
    return folder / "report.html"


def _done(config: DistributionConfig) -> str:
    models, task = "language", "answer questions"
    if config.task == "translation":
        models, task = "encoder-decoder", "translate"
    who = f"Small {models} models learn" if config.model is None else f"Copies of {Path(config.model).name} learn"
    start = "another start of the weights and " if config.model is None else ""
    return (
        f"{who} to {task}. For each of {config.seeds} seeds, one model learns a base corpus "
        "alone and is never shown what the others forget. For each kind of example, another model learns the same "
        f"corpus and {config.forget_size} examples of that kind, and then unlearns these by {config.method} in "
        f"{config.unlearn_steps} steps while it is measured every {config.every} steps. Every seed has another half of "
        f"the kind's {2 * config.forget_size} examples, {start}another order of the data. "
        "The kinds:"
    )


def _said(found: Finding, study: Study) -> str:
    """A verdict with the count of seeds it rests on."""
    n, verdict = len(found.differences), found.verdict(study.config.alpha)
    unknown = f", in {found.unknown} a set did not get there" if found.unknown else ""
    if verdict == "holds":
        return f"holds here ({found.in_favour} of {n} seeds{unknown})"
    if verdict == "opposite":
        return f"the opposite holds here ({found.against} of {n} seeds{unknown})"
    return f"not decided (so in {found.in_favour} of {n} seeds, the opposite in {found.against}{unknown})"


def _steps(found: Reached, study: Study) -> str:
    middle = found.steps_median.estimate
    if math.isinf(middle):
        return f"more than {study.config.unlearn_steps} steps"
    return f"{middle:.1f} steps"


def _power(study: Study) -> str:
    """Says where the seeds are too few for any verdict."""
    least = 2.0 ** -int(study.config.seeds) * max(1, len(study.findings))
    if least <= study.config.alpha:
        return ""
    return (
        f"With {study.config.seeds} seeds and {len(study.findings)} findings none can be decided, even where all "
        f"seeds agree (adjusted p {least:.3f} at best): the column “seeds in favour” says what was seen. "
    )
