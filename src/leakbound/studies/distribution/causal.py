"""Causal language models in the distribution study, through leakbound's own trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerCallback

from leakbound.models.hf import HFModel
from leakbound.models.hf.loading import load_model, load_tokenizer
from leakbound.reading.pairs import Pair
from leakbound.records import Prompt, SamplingParams, Shard
from leakbound.runs.files import kept
from leakbound.studies.distribution.corpora import Item
from leakbound.studies.distribution.learners import Learning, Said, Speaker, Unlearning, Watch, likelihoods
from leakbound.unlearning import adapters, running
from leakbound.unlearning.config import FinetuneConfig, UnlearnConfig
from leakbound.unlearning.data import PairedData
from leakbound.unlearning.objectives import LEARN, find_objective
from leakbound.unlearning.passes import REFERENCES
from leakbound.unlearning.sampling import AnswerAnew
from leakbound.unlearning.scratch import find_size, new_model, train_tokenizer
from leakbound.unlearning.train import Run, passes_of
from leakbound.unlearning.trainer import Weights


@dataclass(frozen=True)
class CausalSpeaker:
    """A causal model that can be measured; it is put back into training mode by whoever trains it."""

    model: HFModel
    max_tokens: int

    def likelihoods(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> list[list[Said]]:
        """The given answers to each question, by teacher forcing."""
        rows = self.model.answer_likelihoods(questions, answers)
        return [[Said(float(x.logprobs.sum()), len(x.logprobs), bool(x.greedy.all())) for x in row] for row in rows]

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The greedy answer to each question."""
        prompts = tuple(Prompt(f"{i:06d}", text, "-") for i, text in enumerate(questions))
        greedy = SamplingParams(temperature=0, max_tokens=self.max_tokens)
        draws = self.model.sample(Shard(prompts, 0, 1, 0), greedy)
        return [draw.text for draw in sorted(draws, key=lambda d: d.prompt_id)]


@dataclass(frozen=True)
class CausalLearner:
    """Trains and unlearns causal models: from scratch, or from a model of the user's."""

    how: Learning

    def make_tokenizer(self, items: Sequence[Item], folder: Path) -> None:
        """A byte-level tokenizer of the items' text, or the user's model's own."""
        if self.how.model is not None:
            load_tokenizer(self.how.model).save_pretrained(folder)
            return
        texts = [f" {text}" for item in items for text in (item.question, item.answer)]
        train_tokenizer(texts, find_size(self.how.size).vocabulary).save_pretrained(folder)

    def train(
        self, items: Sequence[Item], watched: Sequence[Item], *, seed: int, tokenizer: Path, folder: Path
    ) -> NDArray[np.bool_]:
        """Fine-tune on the items with plain likelihood; see :class:`Learner`."""
        how, words = self.how, load_tokenizer(str(tokenizer))
        config = FinetuneConfig(
            data=Path("items"), out=Path(folder.name), model=how.model, from_scratch=None if how.model else how.size,
            seed=seed, schedule="cosine", warmup=0.1, **self._common(how.epochs, how.batch_size, how.learning_rate),
        )  # fmt: skip
        with running.own_randomness():
            if how.model is not None:
                model = running.load(how.model, config)
            else:
                model = new_model(how.size, words, seed=seed, max_length=config.max_length)
            run, cost = Run(config, folder, words, False, {}), running.Cost()
            data = PairedData((), run.encode(_pairs(items), refusals=False), seed=seed)
            seen = AfterEpoch(self._speaker(model, words), watched)
            trainer = run.train(model, data, cost, objective=LEARN, weights=Weights(), callbacks=[seen])
            running.save(trainer, words, config, folder, cost, run.inputs)
        return np.array(seen.reproduced, dtype=bool).reshape(len(seen.reproduced), len(watched))

    def unlearn(
        self, model: Path, forget: Sequence[Item], retain: Sequence[Item], how: Unlearning, *, seed: int, watch: Watch
    ) -> None:
        """Any objective of :mod:`leakbound.unlearning.objectives`; its needs are met as by ``leakbound unlearn``."""
        config = UnlearnConfig(
            model=str(model), forget=(Path("forget"),), retain=Path("retain"), out=Path("unlearned"), method=how.method,
            like="ours", forget_weight=how.forget_weight, retain_weight=how.retain_weight, on_collapse="ignore",
            seed=seed, schedule="constant", max_steps=how.steps, max_tokens=self.how.max_tokens,
            **self._common(1, how.batch_size, how.learning_rate),
        )  # fmt: skip
        objective = find_objective(how.method)
        with running.own_randomness(), kept(None) as unsaved:  # the trainer makes its folder
            words, net = load_tokenizer(str(model)), running.load(str(model), config)
            speaker, run = self._speaker(net, words), Run(config, unsaved, words, False, {})
            watch(speaker, 0)
            reference = adapters.reference_of(net) if any(objective.uses(name) for name in REFERENCES) else None
            passes = passes_of(net, words, config, reference)
            pairs = _pairs(forget)
            examples = run.encode(pairs, refusals=objective.uses("refusal"))
            if objective.uses("ref_logps"):
                examples = run.with_references(net, examples)
            retained = run.encode(_pairs(retain), refusals=objective.uses("refusal"))
            data = PairedData(examples, retained, seed=seed)
            anew = AnswerAnew(net, words, pairs, config) if objective.uses("sampled") else None
            run.train(
                net, data, running.Cost(), objective=objective, weights=Weights.of(config), passes=passes, anew=anew,
                callbacks=[EverySteps(speaker, watch, how.every, how.steps)],
            )  # fmt: skip

    def load(self, model: Path) -> Speaker:
        """A saved model."""
        return self._speaker(load_model(str(model), dtype="float32", device="auto"), load_tokenizer(str(model)))

    def _speaker(self, model: Any, tokenizer: Any) -> CausalSpeaker:
        return CausalSpeaker(HFModel(model, tokenizer, template=self.how.template), self.how.max_tokens)

    def _common(self, epochs: int, batch_size: int, learning_rate: float) -> dict[str, Any]:
        """Settings of the trainer that both trainings share."""
        return {
            "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "template": self.how.template,
        }  # fmt: skip


class AfterEpoch(TrainerCallback):  # type: ignore[misc]
    """After each epoch, asks which of the watched items the model reproduces."""

    def __init__(self, speaker: CausalSpeaker, watched: Sequence[Item]) -> None:
        self.speaker, self.watched = speaker, tuple(watched)
        self.reproduced: list[list[bool]] = []

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer."""
        net = self.speaker.model.model
        net.eval()
        self.reproduced.append([said.reproduced for said in likelihoods(self.speaker, self.watched)])
        net.train()


class EverySteps(TrainerCallback):  # type: ignore[misc]
    """Shows the model to ``watch`` after each ``every`` steps and after the last one."""

    def __init__(self, speaker: CausalSpeaker, watch: Watch, every: int, last: int) -> None:
        self.speaker, self.watch, self.every, self.last = speaker, watch, every, last

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer."""
        if state.global_step % self.every == 0 or state.global_step == self.last:
            net = self.speaker.model.model
            net.eval()
            self.watch(self.speaker, state.global_step)
            net.train()


def _pairs(items: Sequence[Item]) -> list[Pair]:
    return [Pair(item.question, item.answer, item.id) for item in items]
