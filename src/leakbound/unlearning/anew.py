"""Answers to the forget questions, drawn while a model is trained: as often as asked, other draws each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from leakbound.models.base import Generation
from leakbound.models.hf import HFModel
from leakbound.models.hf.forward import Forward, Work
from leakbound.models.randomness import seed_of
from leakbound.models.template import read_answer
from leakbound.reading.pairs import Pair
from leakbound.records import SamplingParams, Shard
from leakbound.scoring import get_scorer, score_completions
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.config import UnlearnConfig
from leakbound.unlearning.groups import Groups
from leakbound.unlearning.sampling import in_its_type


class DrawAnew(TrainerCallback):  # type: ignore[misc]
    """Draws answers to the forget questions every ``config.leak_every`` steps, or at the start of each epoch."""

    def __init__(
        self, model: Any, tokenizer: Any, questions: Sequence[Sequence[Pair]], config: UnlearnConfig, groups: Groups,
        round: int = 0,
    ) -> None:  # fmt: skip
        self.tokenizer, self.questions, self.config, self.groups = tokenizer, questions, config, groups
        self.round = round
        self.model = inner(model)
        self.prompts = tuple(pairs[0].prompt(str(i)) for i, pairs in enumerate(questions))
        self.forward = Forward(self.model, fill=groups.fill, work=Work())
        self.scorer = get_scorer(config.leak_scorer)
        self.number = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before it goes through the data."""
        if self.config.leak_every is None:
            self.again()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before each optimiser step."""
        if self.config.leak_every is not None and state.global_step % self.config.leak_every == 0:
            self.again()

    def again(self) -> None:
        """Draw, and leave the model as it was: training or not."""
        training = self.model.training
        self.model.eval()
        self.draw()
        self.model.train(training)
        self.number += 1

    def draw(self) -> None:
        """Make the groups anew."""
        raise NotImplementedError

    @property
    def seed(self) -> int:
        """The seed of this time's draws: none of a run are those of another time or purpose."""
        return seed_of(self.config.seed, type(self).__name__, self.round, self.number)

    def scores(self, place: int, texts: Sequence[str]) -> list[float]:
        """What the scorer gives completions of a question."""
        said = [read_answer(self.tokenizer, text, self.config.template) for text in texts]
        return score_completions(self.scorer, [(text, self.prompts[place]) for text in said])

    def drawn(self, count: int, *, distinct: int = 0) -> list[list[Generation]]:
        """For each question ``count`` draws of the model, and some distinct ones drawn without replacement."""
        params = SamplingParams(max_tokens=self.config.max_tokens)
        with in_its_type(self.model, self.config) as asked:
            box = HFModel(asked, self.tokenizer, template=self.config.template)  # one that remembers no other weights
            found = box.generations(Shard(self.prompts, 0, count, self.seed), params)
            if not distinct:
                return found
            more = box.distinct(self.prompts, distinct, params, self.seed)
        return [[*some, *others] for some, others in zip(found, more, strict=True)]
