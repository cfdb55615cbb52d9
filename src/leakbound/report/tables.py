"""The audit as text: a table for the terminal, Markdown, CSV. What a model said is hostile text everywhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from leakbound.bounds.result import Bound, show_confidence
from leakbound.bounds.shown import limits
from leakbound.report.findings import LABELS, SYMBOLS, Findings, Row, find
from leakbound.report.saying import legend
from leakbound.wording import about, at_least, brief, csv_cell, markdown_cell

if TYPE_CHECKING:
    from rich.console import Group

    from leakbound.results.audit import Audit, PromptAudit

TERMINAL_ROWS = 20
MARKDOWN_ROWS = 50
EACH_LINE = "Each line holds by itself, with its own confidence; what was observed has none."


def summary(audit: Audit, guess: Audit | None = None) -> str:
    """The verdict in a few plain sentences, every number with its quantifier and confidence."""
    return " ".join(find(audit, guess).sentences)


def statements(found: Findings) -> list[tuple[str, Bound]]:
    """The statements across prompts: what each says, and its bound."""
    audit = found.audit
    said = [("P(leak) of every prompt, the worst one included", audit.worst_prompt)]
    if found.clean_prompts is not None:
        said.append(("P(leak) of every prompt whose greedy answer looks clean", found.clean_prompts))
    return [
        *said,
        ("P(leak), averaged over the prompts", audit.mean_leak),
        ("Mean score, averaged over the prompts", audit.mean_score),
    ]


def to_markdown(audit: Audit, guess: Audit | None = None) -> str:
    """The verdict, the statements and the worst prompts as Markdown."""
    found = find(audit, guess)
    lines = [
        f"# leakbound: {markdown_cell(audit.model)}",
        "",
        f"**{found.title}.** {' '.join(found.sentences)}",
        "",
    ]
    lines += [f"- {markdown_cell(note, 2000)}" for note in found.notes]
    rows = [
        (what, b.scope, limits(b), about(b.estimate), show_confidence(b.alpha), b.method)
        for what, b in statements(found)
    ]
    lines += ["", *_markdown_table(("statement", "holds for", "bound", "observed", "confidence", "method"), rows), ""]
    lines += [EACH_LINE, ""]
    shown = found.shortlist(MARKDOWN_ROWS)
    lines += _markdown_table(COLUMNS, (_cells(row) for row in shown))
    lines += ["", caption(found, shown)]
    if len(found.rows) > MARKDOWN_ROWS:
        lines += ["", f"{len(found.rows) - MARKDOWN_ROWS:,} more prompts are in the report."]
    return "\n".join(lines) + "\n"


def caption(found: Findings, shown: Sequence[Row]) -> str:
    """What the bounds in a table of prompts hold for: the rows stand there because of their results."""
    confidence = show_confidence(found.audit.alpha)
    said = (
        f"Bounds on P(leak) and E[h] hold for each prompt alone, with confidence {confidence}; those under “all at "
        f"once” hold together, with confidence {confidence}: use them for a prompt picked by its result. "
        "Leaks, scores and guess levels are observed."
    )
    if found.guess is not None:
        said += f" +: provably more than guessing, for all prompts at once with confidence {confidence}."
    results = [row.result for row in shown]
    nothing = legend(found.audit, [(p, b) for p in results for b in (p.leak, p.leak_jointly, p.mean)])
    return f"{said} {nothing}" if nothing else said


COLUMNS = (
    "status",
    "id",
    "prompt",
    "greedy score",
    "leaks",
    "P(leak)",
    "all at once",
    "guess level",
    "E[h]",
    "max score",
)


def _cells(row: Row) -> tuple[str, ...]:
    p = row.result
    return (
        f"{SYMBOLS[row.status]} {LABELS[row.status]}",
        brief(p.prompt.id, 40),
        brief(p.prompt.text, 80),
        _greedy(row),
        drawn(p),
        limits(p.leak),
        limits(p.leak_jointly),
        guess_level(row),
        limits(p.mean),
        about(p.max_score),
    )


def drawn(p: PromptAudit) -> str:
    """How many leaks were drawn: of independent draws, or of distinct answers with the mass that these have."""
    said = f"{p.num_leaks:,} of {p.num_samples:,}"
    if p.seen_mass is not None:
        said += f" distinct, mass {at_least(p.seen_mass)}"
    return said + (f", {p.verdict}" if p.verdict else "")


def _greedy(row: Row) -> str:
    """The greedy answer's score, where it is known."""
    score = row.result.greedy_score
    return "–" if score is None else about(score)


def guess_level(row: Row) -> str:
    """How often the model that never saw the secret says it, with a + where the audited one provably does so more."""
    if row.guess is None:
        return "unknown"
    return about(row.guess.leak.estimate) + (" +" if row.more_than_guess else "")


def _markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = tuple(head)
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(markdown_cell(cell, 400) for cell in row) + " |"


def to_csv(audit: Audit, guess: Audit | None = None) -> str:
    """One line for each prompt, worst first, as CSV that no spreadsheet runs. Numbers in full.

    ``confidence`` is that of ``leak_lower``, ``leak_upper``, ``mean_upper`` and ``std_upper``, each for its prompt
    alone; ``joint_confidence`` that of ``leak_upper_jointly``, which holds for all lines together.
    """
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    names = (
        "id",
        "prompt",
        "target",
        "status",
        "greedy_score",
        "greedy_answer",
        "num_samples",
        "num_leaks",
        "leak_lower",
    )
    more = ("leak_upper", "leak_upper_jointly", "guess_level", "mean_upper", "std_upper", "max_score", "verdict")
    write.writerow([*names, *more, "engine", "seen_mass", "confidence", "joint_confidence"])
    for row in find(audit, guess).rows:
        p = row.result
        texts = [csv_cell(t) for t in (p.prompt.id, p.prompt.text, p.prompt.target)]
        level = "" if row.guess is None else row.guess.leak.estimate
        once = ("", "") if p.greedy_score is None else (p.greedy_score, csv_cell(p.greedy_text or ""))
        counted = (row.status, *once, p.num_samples, p.num_leaks)
        limit = (p.leak.lower, p.leak.upper, p.leak_jointly.upper, level, p.mean.upper, p.std.upper)
        mass = "" if p.seen_mass is None else p.seen_mass
        levels = show_confidence(p.leak.alpha), show_confidence(p.leak_jointly.alpha)
        write.writerow([*texts, *counted, *limit, p.max_score, p.verdict, p.engine, mass, *levels])
    return out.getvalue()


def table(audit: Audit, guess: Audit | None = None, *, rows: int = TERMINAL_ROWS) -> Group:
    """The verdict and the worst prompts for the terminal; nothing in a model's output is read as markup."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = find(audit, guess)
    style = {"hidden": "bold yellow", "plain": "bold blue", "seen": "bold yellow", "unseen": "bold"}
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    lines = [(row, _terminal_cells(row)) for row in found.shortlist(rows)]
    grid.add_column("", no_wrap=True, min_width=1)
    grid.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for i, name in enumerate(TERMINAL_COLUMNS):
        width = max([len(name), *(len(cells[i]) for _, cells in lines)])
        grid.add_column(Text(name), justify="right", no_wrap=True, min_width=width)
    for row, cells in lines:
        mark = Text(SYMBOLS[row.status], style=style[row.status])
        grid.add_row(mark, Text(brief(row.result.prompt.text, 120)), *map(Text, cells))
    counts = "\n".join(f"{SYMBOLS[s]} {LABELS[s]} ({what}): {len(found.of(s))}" for s, what in found.meanings.items())
    below = caption(found, [row for row, _ in lines])
    if any(row.result.limits for row in found.rows):
        below += " *: distinct answers, drawn without replacement."
    if len(found.rows) > rows:
        below += f" {len(found.rows) - rows:,} more prompts are in the report."
    head = Text(f"{SYMBOLS[found.status]} {found.title}. ", style=style[found.status])
    head.append(" ".join(found.sentences), style="default")
    notes = Text("\n".join(found.notes), style="dim")
    return Group(head, grid, Text(f"{counts}\n{below}", style="dim"), notes)


TERMINAL_COLUMNS = ("greedy", "leaks", "P(leak)", "all at once", "guess", "E[h]")


def _terminal_cells(row: Row) -> tuple[str, ...]:
    p = row.result
    level = guess_level(row) if row.guess else "?"
    return (
        _greedy(row),
        f"{p.num_leaks}/{p.num_samples}" + ("*" if p.limits else "") + (f" {p.verdict}" if p.verdict else ""),
        limits(p.leak),
        limits(p.leak_jointly),
        level,
        limits(p.mean),
    )
