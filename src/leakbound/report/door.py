"""The one door: a result becomes a document, and a document what its reader wants."""

import html
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from leakbound.errors import InputError
from leakbound.report import benchmark, certificates, comparison, document, evaluation, page, tables
from leakbound.report.parts import Document, Table
from leakbound.results.attestation import Attestation
from leakbound.results.audit import Audit
from leakbound.results.base import Result
from leakbound.results.benchmark import BenchmarkRun, BenchmarkTable, ContinualRun
from leakbound.results.certificate import Certification
from leakbound.results.check import Verdicts
from leakbound.results.comparison import Comparison
from leakbound.results.evaluation import Evaluation
from leakbound.results.judged import JudgedAudit
from leakbound.results.proof import Proof
from leakbound.results.verification import Verification
from leakbound.runs.files import write_text
from leakbound.runs.places import place
from leakbound.wording import visible

DOCUMENTS: Mapping[type[Result], Callable[..., Document]] = {
    Attestation: certificates.attested,
    Audit: page.document,
    Certification: certificates.certificates,
    Verdicts: certificates.checked,
    Comparison: comparison.document,
    JudgedAudit: certificates.judged,
    Proof: certificates.proof,
    Verification: certificates.verified,
    Evaluation: evaluation.document,
    BenchmarkRun: benchmark.run,
    BenchmarkTable: benchmark.side_by_side,
    ContinualRun: benchmark.tasks,
}
"""How each result becomes a document; a new kind of result is a line here."""

NOTEBOOK = '<pre style="white-space:pre;overflow-x:auto;line-height:1.25">{code}</pre>'


def document_of(result: Result, guess: Audit | None = None, **shown: Any) -> Document:
    """The document of a result. ``guess`` is for an audit: that of a model that never saw the secrets;
    ``shown`` for a comparison: links, as its document takes them.

    Raises InputError for a result of another kind, and for a ``guess`` that cannot be compared with the audit.
    """
    if type(result) not in DOCUMENTS:
        known = ", ".join(kind.__name__ for kind in DOCUMENTS)
        raise InputError(f"result is a {type(result).__name__}, which has no document here: give one of {known}")
    given: dict[str, Any] = shown if guess is None else {"guess": guess, **shown}
    return DOCUMENTS[type(result)](result, **given)


def to_html(result: Result, guess: Audit | None = None, **shown: Any) -> str:
    """The result as one self-contained page."""
    return document.to_html(document_of(result, guess, **shown))


def to_markdown(result: Result, guess: Audit | None = None) -> str:
    """The result as Markdown."""
    return document.to_markdown(document_of(result, guess))


def to_csv(result: Result, guess: Audit | None = None) -> str:
    """The result as CSV that no spreadsheet runs, numbers in full; of an audit the worst prompts first."""
    rows = list(tables.full_rows(result, guess) if isinstance(result, Audit) else result.rows())
    cells = tuple(tuple("" if cell is None else str(cell) for cell in row.values()) for row in rows)
    return document.to_csv(Table(tuple(rows[0]) if rows else (), cells))


def write_html(result: Result, path: str | Path, guess: Audit | None = None, **shown: Any) -> Path:
    """Write the page whole or not at all, and return the file."""
    file = place(path)
    write_text(file, to_html(result, guess, **shown))
    return file


def links_to(reports: Mapping[str, Path], beside: Path) -> dict[str, str]:
    """Relative addresses of report.html in these run folders, by model, from a page in the folder ``beside``."""
    return {
        name: quote(os.path.relpath(run / "report.html", beside).replace(os.sep, "/"))
        for name, run in reports.items()
        if (run / "report.html").exists()
    }


def fragment(result: Result, guess: Audit | None = None) -> str:
    """The page inside a frame, for a notebook: neither its style nor the model's output can reach the notebook."""
    inner = html.escape(to_html(result, guess), quote=True)
    return (
        f'<iframe sandbox srcdoc="{inner}" title="leakbound report" style="width:100%;height:42rem;border:0"></iframe>'
    )


def in_notebook(result: Result) -> dict[str, str]:
    """What a terminal would show, as the one output of a notebook's cell: HTML, and the same as text.

    A result without a document shows its sentences and its frame.
    """
    from rich.console import Console, Group
    from rich.text import Text

    if type(result) in DOCUMENTS:
        shown = document.to_terminal(document_of(result))
    else:
        frame = result.to_frame().map(lambda cell: visible(cell) if isinstance(cell, str) else cell)
        shown = Group(Text(visible(str(result), 2000)), Text(frame.to_string(max_rows=20), no_wrap=True))
    console = Console(file=io.StringIO(), record=True, width=110, force_jupyter=False, color_system="standard")
    console.print(shown, crop=False)
    return {
        "text/html": console.export_html(inline_styles=True, code_format=NOTEBOOK, clear=False),
        "text/plain": console.export_text(),
    }
