"""Results for their readers: a web page, Markdown, a table for the terminal, CSV."""

from leakbound.report.page import fragment, summary, table, to_csv, to_html, to_markdown, write_html

__all__ = ["fragment", "summary", "table", "to_csv", "to_html", "to_markdown", "write_html"]
