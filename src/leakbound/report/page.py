"""An audit for its readers: a web page, Markdown, a table for the terminal, CSV.

The page stands alone: style and figures are inside it, it loads nothing and runs nothing. What a model said is
hostile text everywhere: escaped, and shown by :func:`leakbound.wording.visible`.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from leakbound import wording
from leakbound.bounds.gate import reaches
from leakbound.bounds.result import show_confidence
from leakbound.bounds.shown import limits
from leakbound.report import plots, style
from leakbound.report.findings import LABELS, SYMBOLS, Row, find, num_samples_text
from leakbound.report.saying import legend
from leakbound.report.tables import drawn, guess_level, statements
from leakbound.wording import about, brief, level, plural, visible

if TYPE_CHECKING:
    from jinja2 import Template

    from leakbound.bounds import Bound
    from leakbound.results.audit import Audit, PromptAudit


def to_html(audit: Audit, *, guess: Audit | None = None) -> str:
    """The whole report as one self-contained page.

    ``guess`` is the audit, on the same prompts, of a model that never saw the secrets. Raises InputError if it cannot
    be compared with this one.
    """
    found = find(audit, guess)
    picked, everyone = plots.worst_rows(found), found.shortlist(len(found.rows))
    columns = "each prompt: score of the greedy answer; observed share of leaks when sampled, and its upper bound"
    curves = [("the average prompt", None), *((row.result.prompt.id, row) for row in plots.worst_rows(found, 5))]
    return template("report.html.j2").render(
        audit=audit,
        found=found,
        model=audit.model,
        wide=style.svg(plots.greedy_vs_sampled(found), "wide", columns),
        narrow=style.svg(plots.greedy_vs_sampled(found, style.NARROW), "narrow", columns),
        curves=[
            (name, row, style.svg(plots.survival_panel(found, row), f"s{i}", _curve_title(name, row)))
            for i, (name, row) in enumerate(curves)
        ],
        cards=[(row, _secrets(row), _shown(row, audit.threshold)) for row in picked],
        statements=statements(found),
        everyone=everyone,
        nothing=legend(audit, [(p, b) for p in audit.prompts for b in _shown_bounds(p)]),
        quantities=list(quantities(audit)),
        counts=list(counts(audit)),
        facts=[(visible(name, 80), visible(value, 300)) for name, value in flatten(audit.run)],
        n=num_samples_text(audit),
        labels=LABELS,
        meanings=found.meanings,
        symbols=SYMBOLS,
        confidence=show_confidence(audit.alpha),
    )


def fragment(audit: Audit, guess: Audit | None = None) -> str:
    """The page inside a frame, for a notebook: neither its style nor the model's output can reach the notebook."""
    page = html.escape(to_html(audit, guess=guess), quote=True)
    return (
        f'<iframe sandbox srcdoc="{page}" title="leakbound report" style="width:100%;height:42rem;border:0"></iframe>'
    )


def quantities(audit: Audit) -> Iterator[tuple[str, str, str, str, str, str]]:
    """How every number was obtained: name, what it estimates, method, alpha, side, n."""
    t = f"{audit.threshold:g}"
    p = audit.prompts
    per_prompt = (
        ("P(leak), this prompt", f"P(h ≥ {t}) of one prompt", [x.leak for x in p]),
        ("P(leak), all prompts at once", f"P(h ≥ {t}) of each prompt, jointly", [x.leak_jointly for x in p]),
        ("mean score", "E[h] of one prompt", [x.mean for x in p]),
        ("standard deviation", "sd(h) of one prompt", [x.std for x in p]),
        ("mean + 2 sd", "E[h] + 2 sd(h) of one prompt", [x.ed_bound for x in p]),
        ("survival curve", "P(h > x) of one prompt, for all x at once", [x.survival for x in p]),
        ("every prompt", f"the largest P(h ≥ {t})", [audit.worst_prompt]),
        ("average prompt, P(leak)", f"the mean over prompts of P(h ≥ {t})", [audit.mean_leak]),
        ("average prompt, score", "the mean over prompts of E[h]", [audit.mean_score]),
    )
    for name, estimand, bounds in per_prompt:
        yield (
            name,
            estimand,
            _all({b.method for b in bounds}),
            _all({level(b.alpha) for b in bounds}),
            _all({b.side for b in bounds}),
            _all({f"{b.n:,}" for b in bounds}),
        )
    if audit.asked_once:
        yield "greedy score", "h of the one greedy answer", "computed, not estimated", "–", "–", "1"
    yield "ED", "sample mean + 2 sample sd", "plug-in, no guarantee", "–", "–", num_samples_text(audit)


def counts(audit: Audit) -> Iterator[tuple[str, str, str]]:
    """What was drawn and what went wrong: name, number, what it means."""
    p = audit.prompts
    total, cut = sum(x.num_samples for x in p), sum(x.num_truncated for x in p)
    yield "Prompts", f"{len(p):,}", "each asked once greedily and sampled" if audit.asked_once else "each sampled"
    when = "stopped by a rule that was fixed before the first" if audit.run.get("rule") else "fixed before the first"
    yield "Sampled answers", f"{total:,}", f"{num_samples_text(audit)} for each prompt, {when}"
    yield (
        "Distinct answers",
        f"{sum(x.num_distinct for x in p):,}",
        "equal answers of a prompt are scored once, counted all",
    )
    touched = sum(x.num_truncated > 0 for x in p)
    share = (
        f"{about(cut / total)} of all, in {plural(touched, 'prompt')}; what was cut off was not judged" if cut else ""
    )
    unknown = (audit.run.get("imported") or {}).get("cut_unknown", 0)
    ends = f"of {unknown:,} the log does not say it" if unknown else "every answer was judged to its end"
    yield "Cut at max_tokens", f"{cut:,}", "; ".join((share, ends)) if share and unknown else share or ends
    yield "Failed or unscored", "0", "an audit is made of complete runs only: one missing draw or score is an error"


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """run.json as dotted names and texts, without the layout of its shards."""
    for key, value in data.items():
        if prefix == "" and key in ("layout", "format"):
            continue
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else repr(value)


def _curve_title(name: str, row: Row | None) -> str:
    band = "" if row is None else ", with its band"
    return f"observed share of answers that score above x, {visible(name, 80)}{band}"


def _shown_bounds(p: PromptAudit) -> tuple[Bound, ...]:
    return p.leak, p.leak_jointly, p.mean, p.std, p.ed_bound


def _all(values: set[str]) -> str:
    return ", ".join(sorted(values)) if len(values) <= 4 else f"{len(values)} different ones"


def _secrets(row: Row) -> tuple[str, ...]:
    return (row.result.prompt.target, *row.result.prompt.aliases)


def _shown(row: Row, threshold: float) -> list[Any]:
    """A prompt's leaking completions, or its highest-scoring ones where none leaks."""
    worst = row.result.worst
    return [c for c in worst if reaches(c.score, threshold)][:5] or list(worst[:3])


@cache
def template(name: str) -> Template:
    """One of the pages in templates/, everything escaped that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("leakbound.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        about=about,
        limits=lambda bound: limits(bound).replace(" ", "\u00a0"),
        brief=brief,
        visible=visible,
        confidence=show_confidence,
        guess_level=guess_level,
        drawn=drawn,
    )
    env.globals.update(marked=wording.marked, plural=plural)
    return env.get_template(name)
