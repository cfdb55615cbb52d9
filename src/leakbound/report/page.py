"""An audit as a document. A new section is a function that returns one, and its name in :func:`document`."""

from collections.abc import Iterator
from functools import partial

from leakbound.bounds.gate import reaches
from leakbound.bounds.result import in_full, show_confidence
from leakbound.report import account, asking, plots, tables, verdict
from leakbound.report.findings import Findings, find, num_samples_text
from leakbound.report.parts import (
    LABELS,
    MARKDOWN_ROWS,
    PAGE_ROWS,
    Card,
    Document,
    Gallery,
    Legend,
    Picture,
    Points,
    Said,
    Section,
    Small,
    Table,
    Terms,
    Tile,
)
from leakbound.report.rows import Row
from leakbound.report.saying import legend
from leakbound.report.shown import limits
from leakbound.results.audit import Audit, ScoredCompletion
from leakbound.wording import about, brief, plural, visible

FOOTER = (
    "This page holds the secrets and the model’s output word for word: share it as you would share them. It loads "
    "nothing and runs no script. “leakbound view RUN”, with the folder of this run, shows every prompt with all of its "
    "answers."
)


def document(audit: Audit, guess: Audit | None = None, *, rows: int = tables.TERMINAL_ROWS) -> Document:
    """The whole report. ``guess`` is the audit, on the same prompts, of a model that never saw the secrets.

    A terminal shows ``rows`` prompts. Raises InputError if ``guess`` cannot be compared with this audit.
    """
    found = find(audit, guess)
    answer = verdict.answer(found)
    title = verdict.title(found, answer)
    sections = (
        _in_terminal(found, rows),
        _intro(found),
        Section("Statements across prompts", (tables.statements_table(found),), on=("markdown",)),
        _worst(found),
        _asked(found),
        *([_curves(found)] if asking.graded(audit) else []),
        asking.section(audit),
        _closer(found),
        _everyone(found),
        account.drawn(found.audit),
        _statements(found),
        account.obtained(found.audit),
    )
    return Document(
        title,
        found.sentences if title == found.title else (f"{found.title}.", *found.sentences),
        sections,
        made="leakbound audit of",
        of=audit.model,
        footer=FOOTER,
        tone=found.status,
        tiles=tuple(tiles(found)),
        answer=answer,
    )


def tiles(found: Findings) -> Iterator[Tile]:
    """The numbers that stand first."""
    audit = found.audit
    total, n = len(audit.prompts), num_samples_text(audit)
    if audit.asked_once:
        clean, hidden = audit.num_clean, len(audit.hidden)
        yield Tile(f"{clean}", "prompts look clean when asked once", f"of {total}")
        what = f"of these leaked at least once in {n} sampled answers"
        if found.guess is not None:
            hidden = sum(row.more_than_guess is True for row in found.of("hidden"))
            what = "of these provably leak more often than a guess would explain"
        yield Tile(f"{hidden}", what, f"of {clean}", hidden > 0)
    else:
        leaking = len(found.of("seen"))
        yield Tile(f"{leaking}", f"prompts leaked at least once in {n} sampled answers", f"of {total}", leaking > 0)
    bounds = (
        ("P(leak) of every prompt", audit.worst_prompt),
        ("P(leak) above the guess level, every prompt", found.useful_excess),
        ("P(leak) of every prompt that looks clean", None if found.useful_excess else found.clean_prompts),
        ("P(leak) of the average prompt", audit.mean_leak),
    )
    for which, bound in bounds:
        if bound is not None:
            yield Tile(limits(bound), f"{which}, confidence {show_confidence(bound.alpha)}")


def _statuses(found: Findings) -> Legend:
    return Legend(tuple((status, meaning, len(found.of(status))) for status, meaning in found.meanings.items()))


def _in_terminal(found: Findings, rows: int) -> Section:
    shown = found.shortlist(rows)
    below = tables.caption(found, shown)
    if any(row.result.limits for row in found.rows):
        below += " *: distinct answers, drawn without replacement."
    parts = (tables.terminal_table(shown), _statuses(found), Small(below), Points(found.notes))
    return Section("", parts, on=("terminal",))


def _intro(found: Findings) -> Section:
    audit = found.audit
    rule = Small(
        f"A completion leaks when “{visible(audit.scorer, 80)}” gives it a score of {in_full(audit.threshold)} or more "
        "(0 = no leak, 1 = the whole secret). P(leak) is the probability that one sampled answer does."
    )
    return Section("", (rule, Points(found.notes)), on=("markdown", "page"))


def _asked(found: Findings) -> Section:
    once = found.audit.asked_once
    level = "No guess level is known."
    if found.guess is not None:
        level = "Dashes: the guess level, how often a model that never saw the secret was observed to say it."
    said = (
        f"Above: the score of each prompt’s greedy answer{'' if once else ' (not known here)'}. Below: how often the "
        "same prompt was observed to leak when it was sampled (mark), and the upper bound on P(leak) (bar and cap). "
        f"All the bars hold together, with confidence {show_confidence(found.audit.alpha)}. {level}"
    )
    if len(found.rows) > PAGE_ROWS:
        said += f" The {PAGE_ROWS} worst prompts of {len(found.rows):,} are drawn."
    worst = found.rows[0].result
    each = (f"{len(rows)} {LABELS[status]}" for status in found.meanings if (rows := found.of(status)))
    columns = (
        f"Of {plural(len(found.rows), 'prompt')}: {', '.join(each)}. The worst, {brief(worst.prompt.id, 40)}, was "
        f"observed to leak in {about(worst.leak.estimate)} of its answers; its bound is {limits(worst.leak_jointly)}"
    )
    title = f"{'Asked once, and asked' if once else 'Asked'} {num_samples_text(found.audit)} times"
    figure = Picture("columns", columns, partial(plots.greedy_vs_sampled, found))
    return Section(title, (said, _statuses(found), figure), on=("page",))


def _curves(found: Findings) -> Section:
    dots = "Dotted: the model that never saw the secrets. " if found.guess is not None else ""
    said = (
        "P(score > x): the probability that a sampled answer scores above x. Thick line: observed; shaded: the band, "
        f"which for each prompt alone holds for all x at once, with confidence {show_confidence(found.audit.alpha)}; "
        "the prompts here were picked by their results, so the bands together are less certain than one. The vertical "
        f"dashes mark the leak threshold. {dots}The average curve is an observation without a band."
    )
    curves = [("the average prompt", None), *((row.result.prompt.id, row) for row in plots.worst_rows(found, 5))]
    pictures = tuple(
        Picture(
            f"s{i}",
            _curve_in_words(found, name, row),
            partial(plots.survival_panel, found, row),
            name,
            row.status if row else None,
        )
        for i, (name, row) in enumerate(curves)
    )
    return Section("How much of the secret comes out", (said, Gallery(pictures)), on=("page",))


def _curve_in_words(found: Findings, name: str, row: Row | None) -> str:
    rate = found.audit.mean_leak.estimate if row is None else row.result.leak.estimate
    most = "" if row is None else f"; the highest score is {about(row.result.max_score)}"
    return f"{visible(name, 80)}: observed, {about(rate)} of its answers reach the leak threshold{most}"


def _closer(found: Findings) -> Section:
    first = "Hidden leaks first. " if found.of("hidden") else ""
    said = (
        f"{first}What repeats the secret is marked. Control characters and invisible ones are shown as codes, line "
        "breaks as ↵."
    )
    title = "The worst prompts" if found.status not in ("guessed", "unseen") else "The closest calls"
    return Section(title, (said, *(_card(found, row) for row in plots.worst_rows(found))), on=("page",))


def _card(found: Findings, row: Row) -> Card:
    p, confidence = row.result, show_confidence(found.audit.alpha)
    secrets = (p.prompt.target, *p.prompt.aliases)
    aliases = f"also: {visible('; '.join(p.prompt.aliases), 200)}" if p.prompt.aliases else ""
    often = tables.drawn(p) if p.limits else f"{p.num_leaks:,} of {p.num_samples:,} answers"
    cut = f"; {plural(p.num_truncated, 'answer')} cut at max_tokens" if p.num_truncated else ""
    sampled = (
        f"leaked in {often}; P(leak) {limits(p.leak_jointly)}, which holds for all prompts at once with confidence "
        f"{confidence}; mean score {limits(p.mean)}, for this prompt alone{cut}"
    )
    terms: list[tuple[str, str | Said]] = [
        *((f"Before it, {role}", Said(text, limit=300)) for role, text in p.prompt.before),
        ("Prompt", Said(p.prompt.text, limit=500)),
        ("Secret", Said(p.prompt.target, after=aliases, limit=300)),
    ]
    if p.greedy_score is not None:
        terms.append(("Greedy answer", Said(p.greedy_text or "", secrets, f"score {tables.greedy(p)}", 300)))
    terms += [("Sampled", sampled), ("Guess level", _guessed(row))]
    shown = [c for c in p.worst if reaches(c.score, found.audit.threshold)][:5] or list(p.worst[:3])
    answers = tuple((about(c.score), _times(c), Said(c.text, secrets, _cut(c))) for c in shown)
    title = f"most leaking answers of {brief(p.prompt.id, 40)}"
    table = Table(("score", "times", "answer"), answers, title=title, left=(2,)) if answers else None
    return Card(p.prompt.id, row.status, Terms(tuple(terms)), table)


def _guessed(row: Row) -> str:
    if row.guess is None:
        return "unknown: whether this is remembered or guessed cannot be told"
    often = f"{row.guess.num_leaks:,} of {row.guess.num_samples:,}"
    proven = f"{'provably' if row.more_than_guess else 'not provably'} leaks more often than guessing explains"
    return (
        f"{tables.drawn(row.guess) if row.guess.limits else often} answers of a model that never saw the secret: this "
        f"prompt {proven}"
    )


def _times(c: ScoredCompletion) -> str:
    return f"{c.count:,}" if c.probability is None else f"P = {about(c.probability)}"


def _cut(c: ScoredCompletion) -> str:
    return "[cut at max_tokens]" if c.finish_reason == "length" else ""


def _worst(found: Findings) -> Section:
    shown = found.shortlist(MARKDOWN_ROWS)
    return Section("Prompts", (tables.prompts_table(found, shown, tables.caption(found, shown)),), on=("markdown",))


def _everyone(found: Findings) -> Section:
    audit, confidence = found.audit, show_confidence(found.audit.alpha)
    said = (
        f"Hidden leaks first, then open ones, the worst of each kind on top. P(leak), mean score, sd and mean + 2 sd: "
        f"bounds for one prompt alone, confidence {confidence} each; “all at once”: P(leak) bounds that hold together "
        f"for all {len(audit.prompts)}, with confidence {confidence}: use them for a prompt that is picked by its "
        "result. Guess level, greedy and max score, leaks: observed. ED: the plug-in score mean + 2 sd, without a "
        "guarantee."
    )
    if found.audit.cut_shares[0] or found.audit.cut_unknown:
        said += f" {tables.CUT}"
    if found.guess is not None:
        said += (
            " A + beside the guess level: this prompt provably leaks more often than guessed (all + together: "
            f"confidence {confidence})."
        )
    nothing = legend(audit, [(p, getattr(p, q.field)) for p in audit.prompts for q in tables.COLUMNS])
    everyone = found.shortlist(PAGE_ROWS)
    title = "All prompts"
    if (rest := len(found.rows) - len(everyone)) > 0:
        title = f"The {len(everyone)} worst prompts of {len(found.rows):,}"
        said = (
            f"{rest:,} prompts that leaked less are not in this table: audit.json beside this page holds all of them, "
            f"and `leakbound view RUN` shows them. {said}"
        )
    table = tables.prompts_table(found, everyone, f"{said} {nothing}" if nothing else said)
    return Section(title, (table,), on=("page",))


def _statements(found: Findings) -> Section:
    audit = found.audit
    note = (
        "Each line is one statement and is false with probability at most 1 minus its confidence. Two lines together "
        "are less certain than one. Upper bounds are rounded up."
    )
    total, confidence = len(audit.prompts), show_confidence(audit.alpha)
    alone = Small(
        f"The bounds of single prompts (“this prompt”) hold one at a time: among {total} of them at confidence "
        f"{confidence}, up to {about(audit.alpha * total)} are false on average. To speak about all of them, use “all "
        "at once” or “every prompt”."
    )
    return Section("Statements across prompts", (tables.statements_table(found, note), alone), on=("page",))
