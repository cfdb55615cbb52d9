"""What an audit says, before it is typeset: the verdict, the sentences, the prompts in order of how much they leak."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from leakbound.bounds import Bound, worst_prompt_bound
from leakbound.bounds.planning import USEFUL
from leakbound.bounds.result import event, in_full, show_confidence
from leakbound.report.parts import Tone
from leakbound.report.rows import Row, excess, more_on_average, read_rows
from leakbound.report.saying import bounds_in_words
from leakbound.results.audit import CHOSEN_LATER, Audit
from leakbound.wording import about, at_least, brief, level, never_ended, percent, plural

MEANINGS: dict[Tone, str] = {
    "hidden": "clean when asked once, leaked when sampled",
    "plain": "leaks already when asked once",
    "seen": "leaked when sampled; its greedy answer is not known",
    "guessed": "leaked, not provably more often than a model that never saw the secret",
    "unseen": "neither asked once nor sampled",
}


@dataclass(frozen=True)
class Findings:
    """The rows, worst first, and the sentences in the order in which they should be read."""

    audit: Audit
    guess: Audit | None
    rows: tuple[Row, ...]
    title: str
    status: Tone
    sentences: tuple[str, ...]
    clean_prompts: Bound | None
    """Every prompt that looks clean at once, where some but not all do."""
    excess: Bound | None
    """P(leak) minus P(guess) of every prompt, where the guess level of all of them is known."""
    notes: tuple[str, ...]

    def of(self, *statuses: Tone) -> tuple[Row, ...]:
        """The rows of these statuses, worst first."""
        return tuple(row for row in self.rows if row.status in statuses)

    @property
    def useful_excess(self) -> Bound | None:
        """``excess`` where it says more than the bound on every prompt."""
        return self.excess if self.excess and self.excess.upper < self.audit.worst_prompt.upper else None

    @property
    def meanings(self) -> dict[Tone, str]:
        """The statuses that there can be, with what they mean: without greedy answers nothing is known to be hidden."""
        if self.audit.asked_once:
            rare = ("seen", "guessed")
            known = {status: meaning for status, meaning in MEANINGS.items() if status not in rare or self.of(status)}
            if any(self.audit.greedy(row.result) == "unknown" for row in self.of("unseen")):
                known["unseen"] = "no leak seen, asked once or sampled; of some the greedy answer is not known"
            return known
        known = {status: MEANINGS[status] for status in ("seen", "guessed") if status == "seen" or self.of(status)}
        return {**known, "unseen": "never when sampled; its greedy answer is not known"}

    def shortlist(self, limit: int) -> tuple[Row, ...]:
        """The hidden leaks, then the open ones, then the rest; where not all fit, hidden ones leave the others 2/5."""
        hidden, others = self.of("hidden"), self.of("plain", "seen", "guessed", "unseen")
        share = max(limit - len(others), limit - limit * 2 // 5)
        first = hidden[:share]
        return first + others[: limit - len(first)]


def num_samples_text(audit: Audit) -> str:
    """The draws per prompt, a range if they differ."""
    sizes = sorted({p.num_samples for p in audit.prompts})
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


def _answers(audit: Audit) -> str:
    text = num_samples_text(audit)
    return f"{text} sampled answer{'' if text == '1' else 's'}"


def find(audit: Audit, guess: Audit | None = None) -> Findings:
    """Read the audit. Raises InputError if ``guess`` cannot be compared with it."""
    rows = read_rows(audit, guess, audit.alpha)
    greedy_leaks = audit.num_asked - audit.num_clean
    # Which prompts look clean is decided by the greedy answers, not by the draws that are bounded: nothing is paid.
    clean = [row.result.leak for row in rows if audit.greedy(row.result) == "clean"]
    bound = None
    if clean and greedy_leaks and all(b.side == "upper" for b in clean):
        bound = replace(worst_prompt_bound(clean), scope="every prompt that looks clean")
    above = None if guess is None else excess(rows, audit, guess, audit.alpha)
    status, title = _headline(rows, audit, guess, above)
    sentences = [_greedy_against_sampled(audit, len(audit.hidden), greedy_leaks), *bounds_in_words(audit, bound)]
    if audit.run.get("rule"):
        sentences.append(_verdicts(audit))
    sentences.append(_guessing(rows, audit, guess))
    if not audit.planned:
        sentences.append(f"Caution: {CHOSEN_LATER[:1].lower()}{CHOSEN_LATER[1:]}")
    sentences += [f"Caution: {caution}" for caution in audit.cautions]
    sentences += [f"Caution, of the guess level: {caution}" for caution in (() if guess is None else guess.caveats)]
    notes = _notes(audit, guess, [row for row in rows if row.status == "hidden"])
    return Findings(audit, guess, rows, title, status, tuple(sentences), bound, above, notes)


def _headline(rows: Sequence[Row], audit: Audit, guess: Audit | None, above: Bound | None) -> tuple[Tone, str]:
    """The status of the whole audit and its title: what is told from guessing goes before all else."""
    statuses: tuple[Tone, ...] = ("hidden", "plain", "seen", "guessed")
    status: Tone = next((status for status in statuses if any(row.status == status for row in rows)), "unseen")
    if status == "guessed" and guess is not None and more_on_average(rows, audit, guess):
        return "seen", "On average it leaks more often than a model that never saw the secrets"
    return status, {
        "hidden": "Sampling finds leaks that the greedy answers hide",
        "plain": "Leaks in plain sight" + (", none hidden" if audit.num_asked == len(rows) else ""),
        "seen": "Leaks were seen when the model was sampled",
        "guessed": "No leak beyond guessing was found" if above is not None and above.upper <= USEFUL else (
            "Leaks were seen, and the draws are too few to tell them from guessing"
        ),
        "unseen": "No leak was seen" + (
            " before answers were cut" if _any_cut(audit) else "; whether answers were cut is not known"
            if audit.cut_unknown else ""
        ),
    }[status]  # fmt: skip


def _greedy_against_sampled(audit: Audit, hidden: int, plain: int) -> str:
    total, clean, n = len(audit.prompts), audit.num_clean, _answers(audit)
    if not audit.asked_once:
        leaking = sum(p.num_leaks > 0 for p in audit.prompts)
        return (
            f"{leaking} of {plural(total, 'prompt')} leaked in at least one of {n}; the greedy answers are not known."
        )
    looks = "looks" if clean == 1 else "look"
    start = f"{clean} of {plural(total, 'prompt')} {looks} clean when the model is asked once (greedy); "
    cut = sum(p.greedy_finish == "length" and audit.greedy(p) == "unknown" for p in audit.prompts)
    if cut:
        start += f"of {cut} the greedy answer was cut at max_tokens before it leaked, which is not known to be clean; "
    if (unknown := total - clean - plain) > cut:
        start += f"of {unknown - cut} the greedy answer is not known; "
    if clean == 0:
        return start + (
            "nothing is known to be hidden." if unknown else "every prompt leaks already there, so nothing is hidden."
        )
    these = f"of these {clean}" if clean > 1 else "of it"
    if hidden:
        part = "it" if clean == 1 else f"{hidden} {these}" if hidden < clean else f"all {clean} of these"
        return start + f"{part} leaked in at least one of {n}."
    none = f"none {these}" if clean > 1 else "it never"
    return start + f"{none} leaked in any of {n}."


def _verdicts(audit: Audit) -> str:
    """What became of the rule that ended the drawing."""
    rule, fixed = audit.run["rule"], audit.run["statement"]
    if (audit.scorer, audit.threshold) != (fixed["scorer"], fixed["threshold"]):
        return (
            f"The drawing was ended by looks at {event(fixed['threshold'])} by {fixed['scorer']}, another statement "
            f"than this one about {event(audit.threshold)} by {audit.scorer}: no verdict is given here."
        )
    said = [p.verdict if rule["until"] is None else p.stands for p in audit.prompts]
    number = {v: said.count(v) for v in ("proven", "refuted", "open")}
    drawn = sum(p.num_samples for p in audit.prompts)
    open_ones = f"open for {number['open']}"
    if rule["until"] is not None and (never := sum(p.stands != p.verdict for p in audit.prompts)):
        open_ones += f" ({never_ended(never)})"
    elif number["open"]:
        open_ones += f", whose budget of {rule['budget']:,} draws ended first"
    if rule["until"] is None:
        confidence = show_confidence(audit.run["statement"]["alpha"])
        known = f"{number['proven']} of {plural(len(audit.prompts), 'prompt')}"
        return (
            f"P(leak) is known within {in_full(rule['width'])} for {known} "
            f"(each by itself, confidence {confidence}), {open_ones} ({drawn:,} draws in all)."
        )
    proven = [p for p in audit.prompts if p.stands == "proven" and p.cut_share]
    left = "" if not proven else (
        f"; of {plural(len(proven), 'prompt')} where it is proven, "
        f"{percent(max(p.cut_share for p in proven), 'up to ')} of the draws were cut at max_tokens "
        "before they leaked: of longer answers the claim says nothing"
    )  # fmt: skip
    if audit.cut_unknown:
        left += f"; of {plural(audit.cut_unknown, 'draw')} it is not known whether they were cut"
    return (
        f"The claim {rule['until']} is proven for {plural(number['proven'], 'prompt')}, "
        f"refuted for {number['refuted']}, and {open_ones}; each verdict by itself is wrong with probability at most "
        f"{level(audit.run['statement']['alpha'])} ({drawn:,} draws in all){left}."
    )


def _any_cut(audit: Audit) -> bool:
    """Whether some answer, greedy or drawn, was cut before it leaked."""
    asked = any(p.greedy_finish == "length" and audit.greedy(p) == "unknown" for p in audit.prompts)
    return asked or audit.cut_shares[0] > 0


def _guessing(rows: Sequence[Row], audit: Audit, guess: Audit | None) -> str:
    if guess is None:
        return (
            "Guessing and remembering cannot be told apart here: no audit of a model that never saw the secrets was "
            "given for comparison."
        )
    rates = [row.guess.leak.estimate for row in rows if row.guess]
    known, level = len(rates), about(sum(rates) / len(rates))
    leaking = [row for row in rows if row.result.num_leaks and row.guess]
    more = sum(row.more_than_guess is True for row in leaking)
    start = f"A model that never saw the secrets guessed them in {level} of its answers, on average (observed). "
    if not leaking:
        return start + "The audited model leaked in none."
    return start + (
        f"{more} of the {plural(len(leaking), 'prompt')} that leaked when sampled "
        f"{'does' if more == 1 else 'do'} so more often than that model guesses (confidence "
        f"{show_confidence(audit.alpha)} for all {known} comparisons at once)"
        + {0: ".", 1: "; the other one cannot be told from guessing."}.get(
            len(leaking) - more, "; the others cannot be told from guessing."
        )
    )


def _notes(audit: Audit, guess: Audit | None, hidden: Sequence[Row]) -> tuple[str, ...]:
    cut = sum(p.num_truncated for p in audit.prompts)
    total = sum(p.num_samples for p in audit.prompts)
    touched = sum(p.num_truncated > 0 for p in audit.prompts)
    notes = []
    if not audit.asked_once:
        notes.append(
            "The draws were made elsewhere, without greedy answers: whether asking once would have hidden a leak is "
            "not known."
        )
    elif not hidden and audit.hidden:
        notes.append(
            f"{plural(len(audit.hidden), 'prompt')} that looked clean leaked when sampled, none of them provably more "
            "often than a model that never saw the secrets."
        )
    elif not hidden and audit.num_asked < len(audit.prompts):
        notes.append("No prompt is known to be hidden, but not every greedy answer is known: it may have been cut.")
    elif not hidden:
        notes.append(
            "No prompt is hidden in this run: no prompt has a clean greedy answer and a leaking sampled one. "
            "Greedy decoding would have given the same verdict here; the bounds say how far that can be trusted."
        )
    else:
        worst = hidden[0].result
        notes.append(
            f"Of the hidden prompts {brief(worst.prompt.id, 40)} leaked most: in {plural(worst.num_leaks, 'draw')} of "
            f"{worst.num_samples:,}"
            + (
                f" distinct ones, which have probability {at_least(worst.limits.lower)} or more (certain)."
                if worst.limits
                else ". That was observed; a prompt picked by its result is bounded by the statement on every prompt."
            )
        )
    if cut:
        notes.append(
            f"{plural(cut, 'draw')} of {total:,} (in {plural(touched, 'prompt')}) {'was' if cut == 1 else 'were'} cut "
            "at max_tokens. What was cut off was not judged: a leak that comes later is not in these numbers. Cut "
            f"before they leaked: {percent(audit.cut_shares[1])} of a prompt's draws on average, "
            f"{percent(audit.cut_shares[0])} at most."
        )
    if audit.cut_unknown:
        notes.append(
            f"Of {plural(audit.cut_unknown, 'draw')} the log does not say whether they were cut: a leak after a cut is "
            "not in these numbers."
        )
    if seen := sum(p.limits is not None for p in audit.prompts):
        notes.append(
            f"{plural(seen, 'prompt')} of {len(audit.prompts)} {'was' if seen == 1 else 'were'} drawn without "
            "replacement: counts are of distinct answers there, not of how often they come, and every bound uses the "
            "exact probabilities of the answers."
        )
    engine = audit.run.get("engine")
    if isinstance(engine, dict) and engine.get("because"):
        notes.append(f"Engine auto fell back to independent draws: {engine['because']}.")
    if isinstance(engine, dict) and engine.get("name") == "counted":
        notes.append(
            "The draws are independent ones that were counted: their order is not known, and no bound uses one."
        )
    known = {p.prompt.id for p in guess.prompts} if guess else set()
    if guess is not None and (missing := sum(p.prompt.id not in known for p in audit.prompts)):
        notes.append(
            f"{plural(missing, 'prompt')} of the audit {'is' if missing == 1 else 'are'} not in the guess audit."
        )
    if guess is not None and guess.run.get("params") != audit.run.get("params"):
        notes.append("The guess audit was drawn with other sampling parameters, so its level is for that setting.")
    if left_out := (audit.run.get("served") or {}).get("not_sent"):
        notes.append(
            f"Not sent to the server, so that its own setting of it is part of every statement: {', '.join(left_out)}."
        )
    notes.append(
        "Every statement is about these prompts and this decoding setting: another temperature, top-p, top-k or prompt "
        "text is another statement."
    )
    return tuple(notes)
