"""Logs whose draws our own rule ended, each prompt's where its claim was settled: run folders with that rule.

What was drawn beyond, beside the draw that settled it, is left out: a run holds what its looks saw.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from leakbound.auditing.stopping import StoppingRule, Watch
from leakbound.bounds.gate import check_alpha, check_threshold
from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.imported import Log, draws_of
from leakbound.runs.layout import Part
from leakbound.runs.store import Run
from leakbound.scoring import code_of, get_scorer, is_built_in, score_completions

STATEMENT, RULE = ("scorer", "threshold", "alpha"), ("until", "width", "budget")
"""What each must hold."""


def read_rule(log: Log, given: Mapping[str, Any]) -> tuple[StoppingRule, dict[str, Any]]:
    """The rule of a log, and the statement that was fixed with it.

    InputError for another statement ``given``, for a field that is missing or damaged, and for a scorer that is neither
    built in nor given: a log is data, and nothing that it names is run.
    """
    assert log.stopped is not None  # asked by the caller
    fixed, written = dict(log.stopped["statement"]), dict(log.stopped["rule"])
    for what, found, names in (("statement", fixed, STATEMENT), ("rule", written, RULE)):
        if lost := [name for name in names if name not in found]:
            raise InputError(
                f"{log.file}: the {what} of its early stopping has no {lost[0]!r}: give the log as written"
            )
    for name, value in given.items():
        if value != fixed[name]:
            raise InputError(
                f"{name} is {value!r}, and the draws of {log.file} were ended by a rule with {fixed[name]!r}: leave it "
                "out, and bound the run folder with yours"
            )
    if not (is_built_in(str(fixed["scorer"])) or "scorer" in given):
        raise InputError(f"{log.file} names the scorer {fixed['scorer']!r}, which is not built in: name it yourself")
    try:
        threshold, alpha = check_threshold(fixed["threshold"]), check_alpha(fixed["alpha"])
        return StoppingRule.from_json(written, threshold=threshold, alpha=alpha), fixed
    except (InputError, TypeError, ValueError) as error:
        raise InputError(
            f"{log.file}: the statement or the rule of its early stopping cannot be read ({error}): give the log as "
            "written"
        ) from error


def write_rounds(run: Run, log: Log, rule: StoppingRule) -> int:
    """The draws and scores of each round, as a run that stops early holds them; how many draws are left out.

    IncompleteRunError for a prompt whose draws end before its rule does.
    """
    name = str(run.info["statement"]["scorer"])
    scorer, known = get_scorer(name), {asked.prompt.id: asked.completions for asked in log.asked}
    watches = {prompt.id: Watch(rule) for prompt in run.prompts}
    rounds: dict[str, list[Part]] = {}
    for part in run.parts:
        if not part.greedy:
            rounds.setdefault(part.name.split("-")[1], []).append(part)
    for _, parts in sorted(rounds.items()):
        still = {prompt for prompt, watch in watches.items() if not watch.ended}
        found: dict[str, list[tuple[float, int]]] = {prompt: [] for prompt in still}
        for part in parts:
            members = [prompt for prompt in run.prompts[part.start : part.stop] if prompt.id in still]
            for prompt in members:
                if len(known[prompt.id]) < part.first + part.num_samples:
                    raise IncompleteRunError(
                        f"{log.file}: prompt {prompt.id!r} has {len(known[prompt.id])} completions and {rule.until} is "
                        f"open, so that its rule goes on to {part.first + part.num_samples}: draws are missing"
                    )
            if not members:
                continue
            draws = draws_of(members, part, known)
            asked = {prompt.id: prompt for prompt in members}
            scores = score_completions(scorer, [(draw.text, asked[draw.prompt_id]) for draw in draws])
            run.write_draws(part, draws)
            run.write_scores(part, name, draws, scores, code=code_of(name))
            for draw, score in zip(draws, scores, strict=True):
                found[draw.prompt_id].append((score, draw.count))
        for prompt_id, pairs in found.items():
            watches[prompt_id].add(np.array([v for v, _ in pairs]), np.array([c for _, c in pairs]))
    return sum(len(known[prompt_id]) - watch.n for prompt_id, watch in watches.items())
