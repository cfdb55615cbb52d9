"""The one door: a result becomes a document, and a document what its reader wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leakbound.report import certificates, comparison, document, page, tables
from leakbound.report.document import Document
from leakbound.results.audit import Audit
from leakbound.results.base import Result
from leakbound.results.certificate import Certification
from leakbound.results.comparison import Comparison
from leakbound.results.judged import JudgedAudit
from leakbound.runs.files import write_text

DOCUMENTS: Mapping[type[Result], Callable[[Any], Document]] = {
    Comparison: comparison.document,
    Certification: certificates.certificates,
    JudgedAudit: certificates.judged,
}


def document_of(result: Result) -> Document:
    """The document of a result."""
    return DOCUMENTS[type(result)](result)


def to_html(result: Result, guess: Audit | None = None) -> str:
    """One self-contained page."""
    return page.to_html(result, guess=guess) if isinstance(result, Audit) else document.to_html(document_of(result))


def to_markdown(result: Result, guess: Audit | None = None) -> str:
    """Markdown."""
    if isinstance(result, Audit):
        return tables.to_markdown(result, guess)
    return document.to_markdown(document_of(result))


def write_html(result: Result, path: str | Path, guess: Audit | None = None) -> Path:
    """Write the page whole or not at all, and return the file."""
    write_text(Path(path), to_html(result, guess))
    return Path(path)
