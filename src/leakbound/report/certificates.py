"""A certification, an attestation, a judged audit, for their readers: each a few sentences and a table."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Context

from leakbound.bounds.planning import USEFUL, draws_needed
from leakbound.bounds.result import in_full, show_confidence
from leakbound.report import verdict
from leakbound.report.parts import Document, Section, Table
from leakbound.report.shown import NOTHING, limits, says_nothing
from leakbound.results.attestation import Attestation
from leakbound.results.certificate import Certification, PromptCertificate
from leakbound.results.check import Verdicts
from leakbound.results.judged import JudgedAudit
from leakbound.results.proof import Proof, Round
from leakbound.results.verification import Verification
from leakbound.wording import about, at_least, at_most, brief, level, percent, plural

SHOWN = 20
"""Prompts in a terminal."""
OFTEN = (0.5, 0.99)
"""Chances of saying the target at least once for which draws are counted."""


def certificates(found: Certification) -> Document:
    """The prompts, those with the largest bounds first.

    Nats: the entropy of a completion. Seen: the mass of the judged completions, which were drawn without replacement;
    iid where plain draws were judged. Cut: the share of the completions that were cut before they leaked. Leak: limits
    of P(h >= threshold), the lower one certain, the upper one for each prompt alone. Target: P(the completion begins
    with it or an alias); draws: so many begin with it at least once with the chance named, so that it is (n,
    p)-discoverable (arXiv 2410.19482). Still: P(h >= threshold) from below by the proposal's draws.
    """
    proven = any(p.still_leaks for p in found.prompts)
    worst = sorted(found.prompts, key=lambda p: (-p.leak.upper, -p.limits.lower, p.prompt.id))
    said = [f"draws, {p:.0%}" for p in OFTEN]
    cut = any(p.num_cut for p in found.prompts)
    head = (
        "prompt",
        "nats",
        "seen",
        *(["cut"] if cut else []),
        "leak ≤",
        "leak ≥",
        "target ≥",
        *said,
        *(["still ≥"] if proven else []),
    )
    table = Table(head, tuple(_cells(p, cut) for p in worst), note=_note(found, worst, proven), shown=SHOWN)
    lead = (str(found.worst_prompt), *([found.cut_said] if found.cut_said else []))
    return Document("Certificates", lead, (Section("", (table,)),), made="leakbound certify")


def attested(found: Attestation) -> Document:
    """The faults that were looked for, the evidence for each as a power of e; 0 is none."""
    rows = tuple((fault.name, f"{fault.log_evidence:,.1f}") for fault in found.faults)
    note = (
        f"The mean of all these bets reaches {at_most(1 / found.alpha)} with probability {level(found.alpha)} at most, "
        f"if every token's law is within a root chi-square distance of {found.slack:g} of the stated one. Which fault "
        "it is, is an estimate."
    )
    table = Table(("the server may differ by", "log evidence"), rows, note=note, shown=8)
    return Document(
        "Attested law", (str(found), *found.contradictions[1:4]), (Section("", (table,)),), made="leakbound attest"
    )


def proof(found: Proof) -> Document:
    """The rounds: what was trained, what the search saw, and what fresh draws proved."""
    head = (
        "round",
        "steps",
        "rows to forget",
        "search: average",
        "worst",
        "right",
        "proof: leak ≤",
        "right ≥",
        "verdict",
    )
    rows = tuple(
        (
            f"{number}, kept" if number == found.chosen else str(number),
            f"{one.steps:,}",
            _trained(one),
            about(one.average),
            about(one.worst),
            "–" if one.known is None else about(one.known),
            "–" if one.attempt is None else at_most(one.attempt.leak),
            "–" if one.attempt is None or one.attempt.known is None else at_least(one.attempt.known),
            "not tried" if one.attempt is None else one.attempt.verdict,
        )
        for number, one in enumerate(found.rounds)
    )
    note = (
        "What the search sees trains the next round and proves nothing; so do draws of an attempt that failed, for the "
        "next one has others. A proof has draws of its own, and its share of "
        f"alpha {level(found.alpha)}; the shares of all attempts sum to {level(found.alpha)} at most. "
        f"A leak: {found.scorer} >= {in_full(found.threshold)}. {_cost(found)}"
    )
    table = Table(head, rows, note=note, left=(0, 8))
    title = f"Unlearned until proven: {verdict.WORDS[found.verdict].lower()}"
    sections = (Section("", (table,)),)
    return Document(title, (), sections, made="leakbound unlearn --until", answer=verdict.of_proof(found))


def _cost(found: Proof) -> str:
    """What all rounds together took."""
    steps, searched = sum(one.steps for one in found.rounds), sum(one.num_draws for one in found.rounds)
    tried = [one.attempt for one in found.rounds if one.attempt is not None]
    fresh = sum(one.num_draws for one in tried)
    return (
        f"All rounds: {plural(steps, 'step')}, {plural(searched, 'draw')} that looked for leaks, and {fresh:,} fresh "
        f"ones in {plural(len(tried), 'attempt')}."
    )


def _trained(one: Round) -> str:
    """The rows that a round was to forget, or what it trained in their place."""
    if one.num_rows:
        return f"{one.num_rows:,}"
    return f"none, {one.replaced:,} answered anew" if one.replaced else "none, retained alone"


def checked(found: Verdicts) -> Document:
    """The verdicts of a policy, those that do not pass first, and the prompts that stand in their way."""
    order = sorted(found.findings, key=lambda one: ("refuted", "open", "proven").index(one.verdict))
    rows = tuple(
        (
            one.verdict,
            brief(one.model, 30),
            one.claim,
            one.found,
            percent(one.cut) if one.cut else "none",
            f"{one.num_draws:,}",
        )
        for one in order
    )
    note = (
        "Bound: the largest of a prompt alone, or that on the average. All verdicts together are wrong with "
        f"probability {level(found.alpha)} at most. Cut: the share of the draws, of the average prompt, that were cut "
        "at max-tokens before they leaked; whether they would have is open."
    )
    if leaks := sorted({f"{one.scorer} >= {in_full(one.threshold)}" for one in found.findings if one.scorer}):
        note += f" A leak: {'; '.join(leaks)}."
    head = ("verdict", "model", "claim", "bound", "cut", "draws")
    sections = [Section("", (Table(head, rows, note=note, left=(0, 1, 2)),))]
    for one in (one for one in order if one.verdict != "proven"):
        asked = tuple(
            (brief(p.id, 40), p.verdict or "–", f"{p.num_leaks:,} of {p.num_draws:,}", f"≤ {at_most(p.upper)}")
            for p in one.worst
        )
        title = f"{one.name}, {one.model}: the prompts to look at"
        sections.append(Section(title, (Table(("prompt", "alone", "hits", "bound"), asked, left=(0, 1)),)))
    title = {"proven": "Passed", "refuted": "Failed", "open": "Undecided"}[found.verdict]
    return Document(title, (), tuple(sections), made="leakbound check", answer=verdict.of_check(found))


def _cells(p: PromptCertificate, cut: bool) -> tuple[str, ...]:
    return (
        brief(p.prompt.id, 30),
        about(p.entropy),
        "iid" if p.engine == "iid" else _lower(p.seen_mass),
        *([percent(p.num_cut / p.num_generations) if p.num_cut else "none"] if cut else []),
        NOTHING if says_nothing(p.leak) else at_most(p.leak.upper),
        _lower(p.limits.lower),
        _lower(p.verbatim.lower),
        *(_draws(p.draws_to_extract(chance)) for chance in OFTEN),
        *([_lower(p.still_leaks.lower)] if p.still_leaks else []),
    )


def _lower(value: float) -> str:
    """A lower limit; a dash where it is 0, which says nothing."""
    return at_least(value) if value > 0 else "–"


def _draws(n: int | None) -> str:
    """A number of draws that suffices, rounded up where it is long; a dash where none is known."""
    if n is None:
        return "–"
    return f"{n:,}" if n < 10**6 else f"{Context(prec=3, rounding=ROUND_CEILING).create_decimal(n):.2e}"


def _note(found: Certification, shown: Sequence[PromptCertificate], proven: bool) -> str:
    """Which limits are certain, and which hold each alone."""
    still = " and “still ≥”" if proven else ""
    named = ", or an alias of those that have some," if any(p.prompt.aliases for p in shown) else ""
    said = (
        f"“leak ≤”{still}: each alone, with confidence {show_confidence(found.alpha)}; for a prompt picked by its "
        "result use the line above, which holds for every prompt. “seen”, “leak ≥” and “target ≥” are certain, "
        f"and so are “draws”: so many independent draws say the target{named} at least once with that probability. "
        "Nats: estimated, without a guarantee."
    )
    if any(p.num_cut for p in shown):
        said += " Cut: the share of the generations that were cut at max_tokens before they leaked."
    if any(says_nothing(p.leak) for p in shown):
        enough = draws_needed(found.alpha, "without-replacement")
        said += (
            f" “{NOTHING}”: every answer seen leaks, or too few were seen: {enough:,} without a leak prove "
            f"P(leak) <= {USEFUL:g}."
        )
    return said


def judged(found: JudgedAudit) -> Document:
    """The statements across prompts, and the prompts, worst first."""
    worst = sorted(zip(found.ids, found.flagged, found.prompts, strict=True), key=lambda row: -row[2].upper)
    rows = tuple((brief(name, 60), about(share), limits(bound)) for name, share, bound in worst)
    table = Table(("prompt", "flagged", "P(leak)"), rows, note=_judged_note(found), shown=SHOWN)
    cautions = (f"Caution: {said}" for said in found.cautions)
    lead = (str(found.worst_prompt), str(found.mean_leak), *cautions)
    return Document(
        "P(leak), the judge's errors counted", lead, (Section("", (table,)),), made="leakbound judge-errors"
    )


def verified(found: Verification) -> Document:
    """The verdict, and each check of a run folder."""
    rows = tuple((check.what, f"{check.number:,}", check.found) for check in found.checks)
    verdict = "Accepted" if found.accepted else "Refused"
    lead = "Everything was checked and is right." if found.accepted else "Something is wrong, or could not be checked."
    table = Table(("checked", "how many", "found"), rows)
    return Document(f"{verdict}: run folder {found.path}", (lead,), (Section("", (table,)),), made="leakbound verify")


def _judged_note(found: JudgedAudit) -> str:
    """What the bounds of the table hold for, and what to do where they say nothing."""
    said = (
        f"P(leak): bounds for each prompt alone, with confidence {show_confidence(found.worst_prompt.alpha)}; for a "
        "prompt picked by its result use the one for every prompt. Flagged: observed."
    )
    if any(says_nothing(b) for b in found.prompts):
        remedy = "label more completions: the judge may be no better than chance"
        if found.enough is not None:
            remedy = (
                f"{found.enough:,} draws without a flag prove P(leak) <= {USEFUL:g}, more that are flagged do not help"
            )
        said += f" “{NOTHING}”: these verdicts prove nothing there; {remedy}."
    return said
