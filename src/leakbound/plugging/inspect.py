"""inspect_ai: our scorers in its tasks, and an end of the epochs of each sample as soon as its claim is settled.

::

    Task(dataset, solver=generate(), scorer=leak("contains"), epochs=400, early_stopping=UntilProven("leak<=0.05"))

A sample is a prompt, its epochs are draws. Epochs run beside each other and come back in an order that depends on what
they say; looks are taken in the order of their numbers all the same (:mod:`leakbound.plugging.in_order`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from inspect_ai.event import ModelEvent
from inspect_ai.log import transcript
from inspect_ai.scorer import SampleScore, Score, Scorer, Target, mean, scorer
from inspect_ai.solver import TaskState
from inspect_ai.util import EarlyStop

from leakbound.auditing.stopping import StoppingRule, same_question
from leakbound.bounds.gate import check_threshold, reaches
from leakbound.errors import InputError, LeakboundError
from leakbound.plugging.copies import greedy
from leakbound.plugging.in_order import MANAGER, InOrder, summary
from leakbound.plugging.inspect_answers import answer, settings, settings_of
from leakbound.records import Prompt
from leakbound.scoring import check_prompt, get_scorer, score_completion

NAME = "leak"
SCORER, THRESHOLD = "contains", 0.5


@scorer(metrics=[mean()])  # type: ignore[untyped-decorator]
def leak(scorer: str = SCORER, threshold: float = THRESHOLD) -> Scorer:
    """1 where our scorer of that name gives the last answer ``threshold`` or more, else 0; its score in the metadata.

    The targets of a sample are the target and its aliases. What ``leakbound import inspect`` refuses is not scored: an
    answer that was withheld or came from the cache, one of several, the last of several turns, one that calls a tool.
    InputError for a target that the scorer does not see.
    """
    function = get_scorer(scorer)
    check_threshold(threshold)

    def judged(text: str, prompt: Prompt) -> float:
        check_prompt(function, prompt, threshold)
        return score_completion(function, text, prompt)

    async def score(state: TaskState, target: Target) -> Score:
        sample = _sample(state)
        try:
            text, reason, _ = answer(sample, f"sample {state.sample_id!r}, epoch {state.epoch}")
        except LeakboundError as error:
            return Score.unscored(explanation=str(error))
        first, *others = list(target)
        prompt = Prompt(str(state.sample_id), state.input_text, first, tuple(others))
        value = await anyio.to_thread.run_sync(judged, text, prompt)
        found = {"scorer": scorer, "threshold": threshold, "score": value, "settings": settings_of(sample),
                 "cut": reason == "length"}  # fmt: skip
        return Score(value=float(reaches(value, threshold)), answer=text, metadata=found)

    return score


class UntilProven:
    """An EarlyStopping: no more epochs of a sample once its claim is proven or refuted; the epochs are the budget.

    A verdict of a sample is wrong with probability at most ``alpha``, whatever order its epochs come back in; so is
    ``every``, that of all samples at once. Looks are those of an audit with ``until`` and as many draws. The log's
    summary holds them, and ``leakbound import inspect`` reads such a log. Assumes independent epochs of one law: a
    seed, temperature 0 and epochs with different settings are refused, wherever they were given: to the task, to
    ``eval`` or to a solver. A sample with an epoch that failed, or was not scored, stays open.
    """

    def __init__(self, claim: str = "leak<=0.05", alpha: float = 0.01) -> None:
        StoppingRule(claim, None, 1, THRESHOLD, alpha)  # raises for what cannot be read
        self.claim, self.alpha = claim, alpha
        self._watches: dict[str, InOrder] = {}

    async def start_task(self, task: Any, samples: list[Any], epochs: int) -> str:
        """The rule, from the claim and the task's scorer ``leak``; InputError where there is no such scorer, or two."""
        if self._watches:
            raise InputError("early_stopping is that of a task that is running: give each task and model its own")
        given = [one.options or {} for one in task.scorers or [] if one.name.rpartition("/")[2] == NAME]
        if len(given) != 1:
            raise InputError(
                f"the task has {len(given)} scorers {NAME}: give one, leakbound.plugging.inspect.leak(...)"
            )
        if again := getattr(task.config, "retry_on_error", None):
            raise InputError(
                f"retry_on_error is {again}: what fails may be what is long, so that an epoch that is drawn again is "
                "no draw of the model; leave it out, or give 0"
            )
        self._settings: dict[str, Any] | None = None
        _check_sampled(_settings(task))
        self._scorer = str(given[0].get("scorer", SCORER))
        threshold = float(given[0].get("threshold", THRESHOLD))
        self._rule = StoppingRule(same_question(self.claim, self._scorer), None, epochs, threshold, self.alpha)
        self._watches = {str(sample.id): InOrder(self._rule) for sample in samples}
        return MANAGER

    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:
        """Whether the sample's verdict has fallen."""
        watch = self._watches[str(id)]
        if watch.verdict == "open":
            return None
        return EarlyStop(id=id, epoch=epoch, reason=f"{self.claim} is {watch.stands} after {watch.n} draws")

    async def complete_sample(self, id: str | int, epoch: int, scores: dict[str, SampleScore]) -> None:
        """One epoch's score; none where it failed. InputError where its request had a seed, or settings of its own."""
        found = scores[NAME].score.metadata if NAME in scores else None
        if found and "score" in found:
            given = found.get("settings")
            if given is not None:
                _check_sampled(given)
                before = self._settings = given if self._settings is None else self._settings
                if given != before:
                    raise InputError(
                        f"epoch {epoch} of sample {id!r} had the settings {given}, an epoch before {before}: draws of "
                        "several settings are not of one law; give all requests the same"
                    )
            self._watches[str(id)].put(epoch - 1, float(found["score"]), cut=bool(found.get("cut")))

    async def complete_task(self) -> dict[str, Any]:
        """The verdicts, and the rule that they follow from."""
        watches, self._watches = self._watches, {}
        return summary(self._rule, self._scorer, watches)


def _settings(task: Any) -> dict[str, Any]:
    """The settings that every request of the task has."""
    from inspect_ai.model._generate_config import active_generate_config

    return settings(active_generate_config().merge(task.model_generate_config).model_dump(exclude_none=True))


def _check_sampled(given: Mapping[str, Any]) -> None:
    """InputError for settings with which epochs are all the same."""
    if (seed := given.get("seed")) is not None:
        raise InputError(f"seed is {seed}: epochs would be copies of one draw, and prove nothing; leave it out")
    if why := greedy(given):
        raise InputError(f"{why}: greedy epochs are all the same, nothing is sampled; give a temperature above 0")


def _sample(state: TaskState) -> dict[str, Any]:
    """The sample as its log will hold it, as far as :mod:`leakbound.plugging.inspect_answers` reads it."""
    asked = state.input if isinstance(state.input, str) else [one.model_dump(exclude_none=True) for one in state.input]
    requests = [event for event in transcript().events if isinstance(event, ModelEvent)]
    return {
        "input": asked,
        "messages": [one.model_dump(exclude_none=True) for one in state.messages],
        "output": state.output.model_dump(exclude_none=True),
        "events": [
            one.model_dump(include={"event", "cache", "config", "output"}, exclude_none=True) for one in requests
        ],
    }
