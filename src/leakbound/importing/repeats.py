"""Logs with repeated completions become run folders, which ``leakbound bound`` and ``leakbound report`` work on.

The draws were made elsewhere. That they are independent, and decoded as the log says, is what the log claims; run.json
says so, with the log's SHA-256.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakbound.auditing.stopping import StoppingRule
from leakbound.bounds import proportion_bound
from leakbound.bounds.gate import check_alpha, check_threshold
from leakbound.bounds.result import show_confidence
from leakbound.errors import InputError
from leakbound.importing.imported import Imported, Log, draws_of
from leakbound.importing.stopped import read_rule, write_rounds
from leakbound.plugging.copies import all_but_few
from leakbound.plugging.copies import greedy as greedy_setting
from leakbound.records import SamplingParams, prompts_checksum
from leakbound.runs.store import Run
from leakbound.scoring import check_prompt, get_scorer
from leakbound.wording import at_most, plural

CLAIMS = (
    "independent draws from one model at one decoding setting, as the log claims; nothing here was drawn by leakbound"
)

USUAL: dict[str, Any] = {"scorer": "rouge_l", "threshold": 0.5, "alpha": 0.01}
"""The statement where none is asked for."""
SEARCHED = ("num_beams", "best_of", "n", "num_return_sequences")
"""Settings with which the answer is picked from several, where they are more than 1."""

AFTER, BEFORE = "written down at the import, after the draws", "that of the rule that ended the draws, as the log says"


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """What is asked of a log with repeated completions."""

    scorer: str | None = None
    """As for audit, rouge_l by default; for run folders only."""
    threshold: float | None = None
    """A completion leaks when it scores this or more; 0.5 by default."""
    alpha: float | None = None
    """The probability that a printed statement is false is at most this; 0.01 by default."""
    greedy: Path | None = None
    """A log of the same format with one greedy completion (temperature 0) for each of the same prompts, if there is."""
    retain_greedy: Path | None = None
    """The same of the model behind the log given as retain."""

    def __post_init__(self) -> None:
        fixed = self.statement
        check_alpha(fixed["alpha"])
        check_threshold(fixed["threshold"])
        get_scorer(fixed["scorer"])

    @property
    def given(self) -> dict[str, Any]:
        """What of the statement was asked for, the defaults too where they were."""
        return {name: value for name in USUAL if (value := getattr(self, name)) is not None}

    @property
    def statement(self) -> dict[str, Any]:
        """The statement, with the defaults where nothing was asked for."""
        return {**USUAL, **self.given}


def write_run(log: Log, out: Path, options: Repeats, greedy: Log | None) -> Imported:
    """The run folder of a log, without greedy shards where there is no log of greedy answers.

    InputError where prompts have unequally many completions, or stand in the log twice, where nothing was sampled, or
    the greedy log does not fit.
    """
    fixed, rule = options.statement, None
    if log.stopped is not None:
        rule, fixed = read_rule(log, options.given)
    n = _equal(log) if rule is None else rule.budget
    _check_once(log)
    first = {} if greedy is None else _matched(log, greedy)
    stated = {"temperature": 1.0, **log.decoding}
    if why := greedy_setting(stated):
        raise InputError(f"{log.file}: the log's {why}: greedy repeats are all the same, nothing is sampled")
    for name in SEARCHED:
        value = log.others.get(name)
        if isinstance(value, int | float) and value > 1:
            raise InputError(f"{log.file}: {name} is {value}: the likeliest of several answers is no draw; give 1")
    if stated.get("top_k") == -1:  # vLLM's word for all tokens
        stated["top_k"] = 0
    cautions = (*_copies(log, n), *_unmodelled(log))
    try:
        params = SamplingParams(**stated)
    except InputError as error:
        raise InputError(f"{log.file}: the log's {error}") from error
    unsaid = sorted(set(params.to_json()) - set(log.decoding) - {"adaptive_temperature"})
    prompts = [asked.prompt for asked in log.asked]
    function = get_scorer(fixed["scorer"])
    for prompt in prompts:
        check_prompt(function, prompt, fixed["threshold"])
    info = {
        "model": {"backend": "imported", "model": log.model},
        "prompts": {"count": len(prompts), "checksum": prompts_checksum(prompts)},
        "params": params.to_json(),
        "num_samples": n,
        "seed": 0,
        "statement": fixed,
        "versions": {},
        **({} if rule is None else {"rule": rule.to_json()}),
        "greedy": greedy is not None,
        "imported": {
            "format": log.format,
            "file": log.file.name,
            "sha256": _sha256(log.file),
            **({} if greedy is None else {"greedy_file": greedy.file.name, "greedy_sha256": _sha256(greedy.file)}),
            "cut_unknown": sum(reason == "unknown" for asked in log.asked for _, reason in asked.completions),
            "assumes": CLAIMS,
            "statement": AFTER if rule is None else BEFORE,
            "not_in_log": unsaid,
            **({"other_settings": dict(log.others)} if log.others else {}),
            **({"cautions": list(cautions)} if cautions else {}),
        },
    }
    run = Run.start(out, info, prompts)
    everyone = {asked.prompt.id: asked.completions for asked in log.asked}
    for part in run.missing_draws():
        if part.greedy or rule is None:
            asked = run.prompts[part.start : part.stop]
            run.write_draws(part, draws_of(asked, part, first if part.greedy else everyone))
    ended: tuple[str, ...] = ()
    if rule is not None:
        left = write_rounds(run, log, rule)
        ended = (
            f"Each prompt's draws were ended by leakbound's rule, {rule.until} at alpha {rule.alpha:g}; {left:,} that "
            "were under way by then are left out.",
        )
    return Imported(run, (*_notes(log, n, unsaid, rule, fixed["alpha"]), *ended, *cautions, *log.notes))


def _equal(log: Log) -> int:
    """The number of completions of each prompt, which must be the same."""
    if not log.asked:
        raise InputError(f"{log.file}: there are no prompts with completions in it")
    seen: dict[str, str] = {}
    for asked in log.asked:
        if asked.prompt.id in seen:
            raise InputError(f"{asked.where}: prompt {asked.prompt.id!r} stands there again ({seen[asked.prompt.id]})")
        seen[asked.prompt.id] = asked.where
    first, n = log.asked[0], len(log.asked[0].completions)
    for asked in log.asked:
        if len(asked.completions) != n or n == 0:
            raise InputError(
                f"{asked.where}: prompt {asked.prompt.id!r} has {plural(len(asked.completions), 'completion')}, prompt "
                f"{first.prompt.id!r} has {n}: every prompt needs the same number, fixed before the first draw; were "
                "some lost?"
            )
    return n


def _check_once(log: Log) -> None:
    """InputError where a prompt stands there twice with the same completions: they would count as further draws."""
    seen: dict[tuple[Any, ...], str] = {}
    for asked, number in zip(log.asked, log.distinct, strict=True):
        prompt = asked.prompt
        key = (prompt.text, prompt.target, prompt.aliases, prompt.before, asked.completions)
        if number > 1 and key in seen:
            raise InputError(
                f"{asked.where}: prompt {prompt.id!r} is, with all its completions, the one that stood before "
                f"({seen[key]}): copies are no further draws; leave it out"
            )
        seen[key] = asked.where


def _copies(log: Log, n: int) -> tuple[str, ...]:
    """What to say where the completions of nearly every prompt are equal.

    InputError where every request had one seed, and where nothing in the log says that they were sampled at all.
    """
    if n > 1 and log.seed is not None:  # where servers round otherwise for other batches, a few copies are not equal
        raise InputError(
            f"{log.file}: every request had the seed {log.seed!r}: the completions of a prompt are copies of one draw, "
            "or nearly; draw again without a seed"
        )
    if n == 1 or not all_but_few(log.distinct):
        return ()
    equal = (
        f"the completions of a prompt are all equal for {log.distinct.count(1):,} of {plural(len(log.asked), 'prompt')}"
    )
    if "temperature" not in log.decoding:
        raise InputError(
            f"{log.file}: {equal}, and nothing in the log says that they were sampled: they may be greedy, of one seed "
            "or of a cache, and prove nothing; draw with a temperature that the log states, or by leakbound sample"
        )
    return (
        f"{equal[0].upper()}{equal[1:]}, though the log's temperature is {log.decoding['temperature']}. If every "
        "request had the same seed, or the answers came from a cache, they are copies of one draw, and no statement "
        "holds.",
    )


def _unmodelled(log: Log) -> tuple[str, ...]:
    if not log.others:
        return ()
    return (
        f"Also set when the answers were drawn: {', '.join(sorted(log.others))}. Every statement is about draws with "
        "that; run.json has the values.",
    )


def _matched(log: Log, greedy: Log) -> dict[str, tuple[tuple[str, str], ...]]:
    """The one greedy completion of each prompt."""
    found = {asked.prompt.id: asked for asked in greedy.asked}
    if greedy.decoding.get("temperature", 0) != 0:
        raise InputError(f"greedy is {str(greedy.file)!r}: its temperature is {greedy.decoding['temperature']}, not 0")
    if _equal(greedy) != 1:
        raise InputError(f"greedy is {str(greedy.file)!r}: give a log with one completion for each prompt")
    for asked in log.asked:
        other = found.get(asked.prompt.id)
        if other is None or other.prompt != asked.prompt:
            what = "is not in it" if other is None else "is another prompt there"
            raise InputError(f"greedy is {str(greedy.file)!r}: prompt {asked.prompt.id!r} of {log.file} {what}")
    return {asked.prompt.id: found[asked.prompt.id].completions for asked in log.asked}


def _notes(log: Log, n: int, unsaid: Sequence[str], rule: StoppingRule | None, alpha: float) -> Iterator[str]:
    yield f"A statement about these draws assumes: {CLAIMS}."
    if rule is None:
        yield "Scorer, threshold and alpha are written down now, after the draws: choose them without seeing scores."
    if unsaid:
        yield f"Not in the log: {', '.join(unsaid)}; run.json has the defaults there, which nobody checked."
    if n < 100 and rule is None:
        least = proportion_bound(0, n, alpha=alpha)
        yield (
            f"{plural(n, 'completion')} for each prompt prove little: without a single leak, P(leak) <= "
            f"{at_most(least.upper)} with confidence {show_confidence(alpha)}."
        )
    reasons = [reason for asked in log.asked for _, reason in asked.completions]
    if unknown := reasons.count("unknown"):
        yield (
            f"The log does not say whether {unknown:,} of {len(reasons):,} completions were cut off: a leak after the "
            "cut is not in these numbers."
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
