"""How an audit's numbers came about: what was drawn, by which method each was obtained, and the run on record."""

from collections.abc import Iterator, Mapping
from typing import Any

from leakbound.bounds.result import Bound, in_full
from leakbound.report.findings import num_samples_text
from leakbound.report.parts import Said, Section, Table
from leakbound.results.audit import Audit
from leakbound.results.quantities import ACROSS_PROMPTS, OF_A_PROMPT
from leakbound.wording import level, percent, plural, visible


def drawn(audit: Audit) -> Section:
    """What was drawn, and what went wrong."""
    table = Table((), tuple(counts(audit)), left=(0, 2))
    return Section("What was drawn, and what went wrong", (table,), on=("page",))


def obtained(audit: Audit) -> Section:
    """How every number was obtained, and the run."""
    account = Table(
        ("number", "estimates", "method", "alpha", "side", "n"),
        tuple(quantities(audit)),
        note="h is the score of a sampled answer. Formulas and sources: docs/methods.md in the leakbound repository.",
        left=(0, 1, 2, 4),
    )
    facts = tuple((visible(name, 80), Said(value, limit=300)) for name, value in flatten(audit.run))
    run = Table((), facts, note="The run, as run.json records it.", left=(0, 1))
    return Section("How every number was obtained", (account, run), on=("page",))


def quantities(audit: Audit) -> Iterator[tuple[str, str, str, str, str, str]]:
    """How every number was obtained: name, what it estimates, method, alpha, side, n."""
    t, p = in_full(audit.threshold), audit.prompts
    for q in (*OF_A_PROMPT, *ACROSS_PROMPTS):
        one = q in ACROSS_PROMPTS
        bounds: list[Bound] = [getattr(audit, q.field)] if one else [getattr(x, q.field) for x in p]
        yield (
            q.name,
            q.estimand.format(t=t),
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
        f"{percent(cut / total)} of the draws, in {plural(touched, 'prompt')}; what was cut off was not judged"
        if cut
        else ""
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


def _all(values: set[str]) -> str:
    return ", ".join(sorted(values)) if len(values) <= 4 else f"{len(values)} different ones"
