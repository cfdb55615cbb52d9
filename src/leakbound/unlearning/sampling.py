"""Training data that the model makes itself: its answers, and those of them that partial model collapse trains on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback

from leakbound.models.base import in_pieces
from leakbound.models.hf import HFModel
from leakbound.models.template import encode_pair, read_answer
from leakbound.reading.pairs import Pair
from leakbound.records import Draw, SamplingParams, Shard
from leakbound.runs.progress import Progress
from leakbound.scoring import get_scorer
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.config import UnlearnConfig
from leakbound.unlearning.data import PairedData


def draw_answers(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    config: UnlearnConfig,
    *,
    count: int,
    round: int,
    progress: bool = False,
) -> list[list[Draw]]:
    """``count`` answers of the model to each question, sampled from its own law; no two rounds share a draw."""
    training = model.training
    prompts = tuple(pair.prompt(str(i)) for i, pair in enumerate(pairs))
    shard = Shard(prompts, first=round * count, num_samples=count, seed=config.seed)
    sampler, params = (
        HFModel(inner(model), tokenizer, template=config.template),
        SamplingParams(max_tokens=config.max_tokens),
    )
    answers: list[list[Draw]] = [[] for _ in pairs]
    title = f"sampling {config.out.name}, round {round + 1}"
    with Progress(title, count * len(pairs), "draws", show=progress) as shown:
        for piece, _ in in_pieces(sampler, shard, params):
            for draw in piece:
                text = read_answer(tokenizer, draw.text, config.template)  # as data are written, to be encoded as such
                answers[int(draw.prompt_id)].append(replace(draw, text=text))
            shown.advance(sum(draw.count for draw in piece))
    model.train(training)
    return [sorted(some, key=lambda draw: draw.first) for some in answers]


def choose_answer(draws: Sequence[Draw], answer: str) -> Draw:
    """The answer least like the original one: the largest reward 1 - ROUGE-L F1, then the most frequent, then by text.

    Partial model collapse (arXiv 2507.04219) trains on own answers that a reward chooses which penalises likeness to
    the original answer; that the reward is this one, and the choice its maximum, is our reading.
    """
    likeness = get_scorer("rouge_l_f1")
    return min(draws, key=lambda d: (likeness(d.text, answer), -d.count, d.text))


class AnswerAnew(TrainerCallback):  # type: ignore[misc]
    """Lets the model answer the forget questions at the start of each epoch, and trains on the chosen answers."""

    def __init__(
        self, model: Any, tokenizer: Any, data: PairedData, pairs: Sequence[Pair], config: UnlearnConfig
    ) -> None:
        self.model, self.tokenizer, self.data, self.pairs, self.config = model, tokenizer, data, tuple(pairs), config

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before it goes through the data."""
        self.draw(int((state.epoch or 0) + 1e-6))

    def draw(self, epoch: int) -> None:
        """Replace the answers that are trained on."""
        count = self.config.pmc_samples
        drawn = draw_answers(self.model, self.tokenizer, self.pairs, self.config, count=count, round=epoch)
        chosen = [choose_answer(draws, pair.answer) for draws, pair in zip(drawn, self.pairs, strict=True)]
        self.data.sampled = tuple(
            example.answered(self._tokens(pair, draw))
            for example, pair, draw in zip(self.data.forget, self.pairs, chosen, strict=True)
        )

    def _tokens(self, pair: Pair, draw: Draw) -> list[int]:
        _, tokens = encode_pair(self.tokenizer, pair.question, draw.text, self.config.template)
        return tokens[:-1] if draw.finish_reason == "length" and len(tokens) > 1 else tokens
