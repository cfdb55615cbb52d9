"""May it ship? The tolerance that was asked for, the verdict on it, how sure that is, and what to do next."""

import re
import shlex
from dataclasses import fields
from typing import Any

from leakbound.bounds.claims import Claim, Verdict
from leakbound.bounds.result import event, in_full, show_confidence
from leakbound.records import SamplingParams
from leakbound.report.findings import Findings
from leakbound.report.parts import Answer
from leakbound.report.saying import enough, is_loud
from leakbound.report.shown import limits, says_nothing
from leakbound.results.audit import Audit
from leakbound.results.check import Verdicts
from leakbound.results.comparison import Comparison
from leakbound.results.proof import Proof
from leakbound.results.verdicts import audit_verdict
from leakbound.wording import about, brief, never_ended, percent, plural, visible

ASK = "leak<=0.05"
"""The claim of a command where nobody named a tolerance: the text beside it says so."""
YOURS = "put your own tolerance into the command"
JUDGED = re.compile("(after:.*:)?judge:", re.DOTALL)
ROUND = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Tolerances that people name."""
WORDS: dict[Verdict, str] = {"proven": "Proven", "refuted": "Refuted", "open": "Undecided"}


def title(found: Findings, said: Answer) -> str:
    """The verdict, or where no tolerance was asked for what was found."""
    if not said.mark:
        return found.title
    only = f" for answers of at most {_max_tokens(found.audit)} tokens" if _limited(found.audit) == "cut" else ""
    word = WORDS[audit_verdict(found.audit)]
    return f"{word}{only if word == 'Proven' else ''}: {said.tolerance}"


def answer(found: Findings) -> Answer:
    """The first thing that a page about an audit says."""
    audit = found.audit
    rule = audit.run.get("rule") or {}
    until = rule.get("until")
    wanted = "none was asked for" if until is None else f"{_claim(until, audit.alpha)} of every prompt"
    if reason := _uncertain(audit):
        step = f"draw again with the statement fixed before the first draw; {YOURS}"
        return Answer(wanted, f"None: {reason}. {_claimable(found)}", "", step, _ask(audit, until or ASK))
    if until is None:
        step, command = _ask_for_one(found)
        measured = f" P(leak) was measured to within {in_full(rule['width'])}." if rule.get("width") else ""
        return Answer(wanted, f"None.{measured} {_claimable(found)}", _each(audit), step, command)
    verdict = audit_verdict(audit)
    step, command = _after(found, verdict, until)
    return Answer(wanted, f"{WORDS[verdict]}. {_reason(audit, verdict)}", show_confidence(audit.alpha), step, command,
                  "open" if verdict == "proven" and _limited(audit) else verdict)  # fmt: skip


def _each(audit: Audit) -> str:
    return f"{show_confidence(audit.alpha)}, each statement by itself"


def _claim(until: str, alpha: float) -> str:
    return str(Claim.parse(until, alpha)).replace("<=", "≤")


def _uncertain(audit: Audit) -> str:
    """Why no verdict counts, if so."""
    fixed = audit.run.get("statement") or {}
    if "imported" in audit.run:
        return "the answers come from a log, which existed before the statement was chosen"
    if not audit.planned:
        return "scorer, threshold or alpha was chosen after the draws"
    if audit.run.get("rule") and (audit.scorer, audit.threshold) != (fixed.get("scorer"), fixed.get("threshold")):
        return f"the drawing was ended by looks at another statement than {event(audit.threshold)}"
    return ""


def _claimable(found: Findings) -> str:
    """The bounds, as what can be claimed without having asked."""
    audit = found.audit
    said = [
        f"{limits(bound)} {what}"
        for bound, what in ((audit.worst_prompt, "for every prompt"), (audit.mean_leak, "for the average prompt"))
        if bound.side != "lower" and not says_nothing(bound)
    ]
    if found.useful_excess is not None:
        said.append(f"{limits(found.useful_excess)} above the guess level for every prompt")
    return f"What can be claimed: P(leak) {', '.join(said)}." if said else "Nothing can be claimed yet."


def _limited(audit: Audit) -> str:
    """What a proof leaves open, and so what to do before it is relied on."""
    if audit.cut_shares[0]:
        return "cut"
    return "judge" if JUDGED.match(audit.scorer) else ""


def _reason(audit: Audit, verdict: Verdict) -> str:
    number = {v: sum(p.stands == v for p in audit.prompts) for v in ("proven", "refuted", "open")}
    if verdict == "proven":
        return {
            "": f"No prompt of {len(audit.prompts):,} leaks more often.",
            "cut": f"But only of answers of at most {_max_tokens(audit)} tokens: "
            f"{percent(audit.cut_shares[0], 'up to ')} of a prompt’s answers were cut before they leaked, "
            "and what would have followed is not known.",
            "judge": "But as the judge sees it: how often it is wrong is not counted.",
        }[_limited(audit)]  # fmt: skip
    return (
        f"Of {plural(len(audit.prompts), 'prompt')}, each alone: {number['refuted']} leak more often than that, "
        f"{number['proven']} do not, {number['open']} are open."
        + (f" {never_ended(audit.never_ended).capitalize()}." if audit.never_ended else "")
    )


def _after(found: Findings, verdict: Verdict, until: str) -> tuple[str, str]:
    """What to do after a verdict."""
    audit = found.audit
    refuted = [row for row in found.rows if row.result.verdict == "refuted"]
    if verdict == "proven":
        return _complete(audit, until) or (
            "nothing: on this claim the model may ship. Whoever doubts it checks the run folder with this command",
            "leakbound verify RUN",
        )
    if refuted and all(row.more_than_guess is False for row in refuted):
        level = max(row.guess.leak.estimate for row in refuted if row.guess)
        return (
            "a model that never saw the secrets says these as often: no unlearning helps. Ask for a tolerance above "
            f"the guess level ({about(level)} at most), or for a secret that cannot be guessed",
            _ask(audit, _within_reach(audit)),
        )  # fmt: skip
    if verdict == "refuted" or refuted:
        return "do not ship on this claim; unlearn until it is proven", _unlearn(_model(audit), until)
    if audit.never_ended and (longer := _complete(audit, until)):
        return longer
    budget = 4 * int(audit.run["rule"]["budget"])
    return "more draws, into a new folder", _ask(audit, until, "--num-samples", str(budget))


def _complete(audit: Audit, until: str) -> tuple[str, str] | None:
    """What is missing before the absence of leaks counts; None where nothing is."""
    match _limited(audit):
        case "cut":
            longer = str(2 * _max_tokens(audit))
            return "let the answers end: audit again with a larger --max-tokens", _ask(
                audit, until, "--max-tokens", longer
            )
        case "judge":
            command = "leakbound judge-errors RUN --sensitivity 47/50 --specificity 95/100"
            return "label some answers by hand and count the judge’s errors; put your own counts", command
    return None


def _ask_for_one(found: Findings) -> tuple[str, str]:
    """What to do where nobody named a tolerance."""
    audit = found.audit
    if says_nothing(audit.worst_prompt) and not any(is_loud(p, audit) for p in audit.prompts):
        least = max(enough(audit), audit.prompts[0].num_samples + 1)
        return f"more draws: at least {least:,} for each prompt", _ask(audit, "", "--num-samples", f"{least}")
    if found.status in ("hidden", "plain", "seen"):
        step = f"do not ship on this; unlearn until a tolerance is proven ({YOURS})"
        if found.guess is None:
            step += (
                ". How much of it is guessed is not known: give --guess the run of a model that never saw the secrets"
            )
        return step, _unlearn(_model(audit), ASK)
    if found.status == "guessed":
        level = max(row.guess.leak.estimate for row in found.rows if row.guess)
        said = f"ask for a tolerance above the guess level, which is {about(level)} at most ({YOURS})"
        return said, _ask(audit, _within_reach(audit), "--guess", "GUESS_RUN")
    until = _within_reach(audit)
    return _complete(audit, until) or (f"ask for a tolerance ({YOURS})", _ask(audit, until))


def _within_reach(audit: Audit) -> str:
    """A claim that this model may well meet: the next round number above what is proven already."""
    return f"leak<={next((limit for limit in ROUND if limit > audit.worst_prompt.upper), 0.5):g}"


def _max_tokens(audit: Audit) -> int:
    return int((audit.run.get("params") or {}).get("max_tokens") or SamplingParams().max_tokens)


def _model(audit: Audit) -> str:
    info = audit.run.get("model")
    local = isinstance(info, dict) and info.get("backend") == "transformers" and audit.model != "unnamed model"
    return shlex.quote(visible(audit.model, 200)) if local else "MODEL"


def _ask(audit: Audit, until: str, *more: str) -> str:
    """The command that audits this model again, with what this run was told that is not the default."""
    stated = {"scorer": (audit.scorer, "rouge_l"), "threshold": (audit.threshold, 0.5), "alpha": (audit.alpha, 0.01)}
    given = [arg for name, (value, usual) in stated.items() if value != usual for arg in (f"--{name}", _plain(value))]
    params, usual = audit.run.get("params") or {}, SamplingParams()
    for name in (field.name for field in fields(SamplingParams)):
        value, option = params.get(name), f"--{name.replace('_', '-')}"
        if value is not None and value != getattr(usual, name) and option not in more and not isinstance(value, list):
            given += [option, _plain(value)]
    ends = ["--until", until] if until else []
    return " ".join(
        (
            "leakbound audit",
            _model(audit),
            "--prompts PROMPTS",
            shlex.join(map(visible, [*given, *ends, *more])),
            "--out NEW_RUN",
        )
    )


def _plain(value: Any) -> str:
    return in_full(value) if isinstance(value, float) else str(value)


def _unlearn(model: str, until: str) -> str:
    ends = f"--until {shlex.quote(until)} --out NEW_MODEL"
    return f"leakbound unlearn --model {model} --forget PROMPTS --retain RETAIN {ends}"


def _mend(found: Verdicts) -> tuple[str, str]:
    """The next step and its command where claims of a policy are refuted: too much leaks, or too little is known."""
    refuted = [one for one in found.findings if one.verdict == "refuted"]
    ask = "do not ship; unlearn until the refuted claims are proven, then check again"
    if all(one.lower for one in refuted):
        ask = "do not ship; too little is answered right: unlearn anew and keep more, then check again"
    keep = " --keep 'known>=0.95'" if any(one.lower for one in refuted) else ""
    return f"{ask} ({YOURS})", _unlearn("MODEL", ASK).replace(" --out", f"{keep} --out")


def of_check(found: Verdicts) -> Answer:
    """Of a policy."""
    step = {
        "proven": ("nothing: on this policy the models may ship", ""),
        "refuted": _mend(found),
        "open": ("more draws: raise num-samples in the policy, then check again", "leakbound check POLICY.yaml"),
    }[found.verdict]  # fmt: skip
    said, mark = str(found), found.verdict
    longer = "let the answers end: a larger max-tokens in the policy, then check again", "leakbound check POLICY.yaml"
    if mark == "open" and any(one.never_ended for one in found.findings if one.verdict == "open"):
        step = longer
    if mark == "proven" and (cut := max(one.cut for one in found.findings)):
        said += f" But {percent(cut, 'up to ')} of the answers were cut before they leaked: what follows is not known."
        step, mark = longer, "open"
    elif mark == "proven" and any(JUDGED.match(one.scorer) for one in found.findings):
        said += " As the judge sees it: how often it is wrong is not counted."
        step = ("label some answers by hand and count the judge’s errors", "leakbound judge-errors")
        mark = "open"
    wanted = f"{visible(found.policy, 80)}: {plural(len(found.findings), 'claim')}"
    return Answer(wanted, said, f"{show_confidence(found.alpha)}, all verdicts at once", *step, mark)


def of_comparison(found: Comparison) -> Answer:
    """Of models side by side: which one, of those that are not proven to leak more than another."""
    wanted = "none: models are compared, and of which a claim is made is chosen afterwards"
    if found.proven is None:
        said = "None, for any model: draws stopped early, or the statement was chosen after them. See each one’s report"
        return Answer(wanted, f"{said}.", "", "audit all with one statement, fixed before the first draw")
    guesses = [m.name == found.guess for m in found.models]
    worse = {j for i, j in found.proven if not guesses[i]}
    best = [m for i, m in enumerate(found.models) if i not in worse and not guesses[i]]
    names = " or ".join(brief(m.name, 40) for m in best[:4]) + (f" or {len(best) - 4} more" if len(best) > 4 else "")
    rest = len(found.models) - len(best) - sum(guesses)
    said = f"Which one: {names}. {'No order is proven between them' if len(best) > 1 else 'It leaks least on average'}"
    said += f"; {plural(rest, 'other')} provably leak{'s' * (rest == 1)} more." if rest else "."
    if found.useful:
        known = ", ".join(f"{about(m.utility.estimate)} ({brief(m.name, 40)})" for m in best[:4] if m.utility)
        said += f" Retain questions answered rightly, observed: {known}."
    if cut := max(m.cut_share or 0.0 for m in best):
        most = percent(cut, "up to ")
        said += f" But {most} of a model’s answers were cut before they leaked: what follows is not known."
    if any(m.cut_share is None for m in best):
        said += " How many answers were cut before they leaked is not known."
    sure = f"{show_confidence(found.alpha)}, for all models at once"
    if any(sum(m.told) for m in best):
        more = " more often than guessed" if found.guess else ""
        level = "" if found.guess else ". Give --guess the run of a model that never saw the secrets: it may be a guess"
        step = f"do not ship on this: it was seen to leak{more}; unlearn until a tolerance is proven"
        return Answer(wanted, said, sure, f"{step} ({YOURS}){level}", _unlearn("MODEL", ASK))
    step = f"ask for a tolerance of the one that you choose, by fresh draws ({YOURS})"
    return Answer(wanted, said, sure, step, f"leakbound audit MODEL --prompts PROMPTS --until '{ASK}' --out NEW_RUN")


def of_proof(found: Proof) -> Answer:
    """Of unlearning until proven."""
    step = {
        "proven": "nothing: on this claim the model may ship",
        "refuted": "do not ship; more rounds, more epochs, or a larger tolerance",
        "open": "do not ship yet; a larger --budget, more --rounds, or a larger tolerance",
    }[found.verdict]
    limited = found.verdict == "proven" and (found.attempt.cut or JUDGED.match(found.scorer))
    if limited or found.unended:
        step = (
            "let the answers end: prove it again with a larger --max-tokens"
            if found.attempt.cut
            else "label some answers by hand and count the judge’s errors: leakbound judge-errors"
        )
    wanted = found.until.replace("<=", " ≤ ") + (f", {found.keep.replace('>=', ' ≥ ')}" if found.keep else "")
    return Answer(wanted, str(found), f"{show_confidence(found.alpha)}, over all rounds", step, "",
                  "open" if limited else found.verdict)  # fmt: skip
