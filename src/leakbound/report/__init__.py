"""Results for their readers: a web page, Markdown, a table for the terminal, CSV."""

from leakbound.report.document import to_terminal
from leakbound.report.door import document_of, fragment, in_notebook, links_to, to_csv, to_html, to_markdown, write_html
from leakbound.report.plots import figures
from leakbound.report.tables import summary

__all__ = [
    "document_of", "figures", "fragment", "in_notebook", "links_to", "summary", "to_csv", "to_html", "to_markdown",
    "to_terminal", "write_html",
]  # fmt: skip
