"""The tables of an audit: its statements, its prompts on a page and in a terminal, and all numbers in full for CSV."""

from collections.abc import Iterator, Sequence

from leakbound.bounds.result import Bound, show_confidence
from leakbound.report.findings import Findings, find
from leakbound.report.parts import Table
from leakbound.report.rows import Row
from leakbound.report.saying import legend
from leakbound.report.shown import limits
from leakbound.results.audit import Audit, PromptAudit
from leakbound.results.quantities import ACROSS_PROMPTS, OF_A_PROMPT
from leakbound.wording import about, at_least, brief, percent, plural

TERMINAL_ROWS = 20
"""Prompts that a terminal shows where not all are."""
EACH_LINE = "Each line holds by itself, with its own confidence; what was observed has none."
CUT = "Cut: the share of draws that were cut at max_tokens before they leaked; whether they would is open."
COLUMNS = [q for q in OF_A_PROMPT if q.heading]
"""The bounds that have a column in the table of prompts."""


def summary(audit: Audit, guess: Audit | None = None) -> str:
    """The verdict in a few plain sentences, every number with its quantifier and confidence."""
    return " ".join(find(audit, guess).sentences)


def statements(found: Findings) -> list[tuple[str, Bound]]:
    """The statements across prompts: what each says, and its bound."""
    said = [(q.heading, getattr(found.audit, q.field)) for q in ACROSS_PROMPTS]
    if found.clean_prompts is not None:
        said.insert(1, ("P(leak) of every prompt whose greedy answer looks clean", found.clean_prompts))
    return said


def statements_table(found: Findings, note: str = EACH_LINE) -> Table:
    """The same as a table."""
    most, mean = found.audit.cut_shares
    cut = most > 0 or found.audit.cut_unknown > 0
    averages = (found.audit.mean_leak, found.audit.mean_score)
    rows = tuple(
        (
            what, b.scope, limits(b), *([found.audit.cut_text(mean if b in averages else most)] if cut else []),
            about(b.estimate),
            show_confidence(b.alpha), f"{b.n:,}", b.method,
        )
        for what, b in statements(found)
    )  # fmt: skip
    head = ("statement", "holds for", "bound", *(["cut"] if cut else []), "observed", "confidence", "draws", "method")
    return Table(head, rows, note=f"{note} {CUT}" if cut else note, left=(0, 1, len(head) - 1))


def prompts_table(found: Findings, rows: Sequence[Row], note: str) -> Table:
    """Prompts with all their bounds."""
    bounds = [q.heading for q in COLUMNS]
    head = ("prompt", "greedy", "leaks", *bounds[:2], "guess", *bounds[2:], "max", "ED", "cut")
    cells = tuple(_cells(row, found.audit) for row in rows)
    return Table(head, cells, note=note, tones=tuple(row.status for row in rows))


def _cells(row: Row, audit: Audit) -> tuple[str, ...]:
    p, bounds = row.result, [limits(getattr(row.result, q.field)) for q in COLUMNS]
    return (
        f"{brief(p.prompt.text, 90)}\n{brief(p.prompt.id, 40)}",
        greedy(p),
        drawn(p, "\n"),
        *bounds[:2],
        guess_level(row),
        *bounds[2:],
        about(p.max_score),
        about(p.ed),
        audit.cut_text(p.cut_share),
    )


def terminal_table(shown: Sequence[Row]) -> Table:
    """Prompts with the columns for which a terminal of 80 has room."""
    cells = tuple(
        (
            brief(row.result.prompt.text, 120),
            greedy(row.result),
            _counted(row.result),
            limits(row.result.leak),
            limits(row.result.leak_jointly),
            guess_level(row) if row.guess else "?",
            limits(row.result.mean),
        )
        for row in shown
    )
    head = ("prompt", "greedy", "leaks", "P(leak)", "all at once", "guess", "E[h]")
    return Table(head, cells, tones=tuple(row.status for row in shown))


def _counted(p: PromptAudit) -> str:
    said = f"{p.num_leaks}/{p.num_samples}" + ("*" if p.limits else "") + (f" {p.stands}" if p.verdict else "")
    return f"{said}, {percent(p.cut_share)} cut" if p.cut_share else said


def drawn(p: PromptAudit, between: str = " ") -> str:
    """How many leaks were drawn: of independent draws, or of distinct answers with the mass that these have."""
    said = f"{p.num_leaks:,} of {p.num_samples:,}"
    if p.seen_mass is not None:
        said += f"{between}distinct, mass {at_least(p.seen_mass)}"
    return said + (f"{between if between != ' ' else ', '}{p.stands}" if p.verdict else "")


def greedy(p: PromptAudit) -> str:
    """The greedy answer's score, where it is known."""
    if p.greedy_score is None:
        return "–"
    return about(p.greedy_score) + (" cut" if p.greedy_finish == "length" else "")


def guess_level(row: Row) -> str:
    """How often the model that never saw the secret says it, with a + where the audited one provably does so more."""
    if row.guess is None:
        return "unknown"
    return about(row.guess.leak.estimate) + (" +" if row.more_than_guess else "")


def caption(found: Findings, shown: Sequence[Row]) -> str:
    """What the bounds in a table of prompts hold for: the rows stand there because of their results."""
    confidence = show_confidence(found.audit.alpha)
    said = (
        f"Bounds on P(leak) and E[h] hold for each prompt alone, with confidence {confidence}; those under “all at "
        f"once” hold together, with confidence {confidence}: use them for a prompt picked by its result. "
        "Leaks, scores and guess levels are observed."
    )
    if found.audit.cut_shares[0]:
        said += f" {CUT}"
    if found.guess is not None:
        said += f" +: provably more than guessing, for all prompts at once with confidence {confidence}."
    results = [row.result for row in shown]
    nothing = legend(found.audit, [(p, b) for p in results for b in (p.leak, p.leak_jointly, p.mean)])
    rest = len(found.rows) - len(shown)
    more = f"{plural(rest, 'more prompt')} {'is' if rest == 1 else 'are'} in the report." if rest else ""
    return " ".join(filter(None, (said, nothing, more)))


def full_rows(audit: Audit, guess: Audit | None = None) -> Iterator[dict[str, object]]:
    """One line for each prompt, worst first, numbers in full, for CSV.

    ``confidence`` is that of ``leak_lower`` and of the ``_upper`` ones, each for its prompt alone;
    ``joint_confidence`` that of ``leak_upper_jointly``, which holds for all lines together.
    """
    for row in find(audit, guess).rows:
        p = row.result
        yield {
            "id": p.prompt.id,
            "prompt": p.prompt.text,
            "target": p.prompt.target,
            "status": row.status,
            "greedy_score": p.greedy_score,
            "greedy_finish": p.greedy_finish,
            "greedy_answer": None if p.greedy_score is None else p.greedy_text,
            "num_samples": p.num_samples,
            "num_leaks": p.num_leaks,
            "cut_share": None if audit.cut_unknown else p.cut_share,
            "leak_lower": p.leak.lower,
            **{q.upper: getattr(p, q.field).upper for q in OF_A_PROMPT if q.upper},
            "guess_level": row.guess and row.guess.leak.estimate,
            "max_score": p.max_score,
            "verdict": p.stands,
            "engine": p.engine,
            "seen_mass": p.seen_mass,
            "confidence": show_confidence(p.leak.alpha),
            "joint_confidence": show_confidence(p.leak_jointly.alpha),
        }
