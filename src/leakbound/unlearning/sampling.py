"""Training data that the model makes itself: its answers, and those that partial model collapse keeps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from leakbound.models.base import in_pieces
from leakbound.models.hf import HFModel
from leakbound.models.template import encode_pair, read_answer
from leakbound.reading.pairs import Pair
from leakbound.records import Draw, SamplingParams, Shard
from leakbound.runs.progress import Progress
from leakbound.scoring import rouge_l
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.config import UnlearnConfig
from leakbound.unlearning.data import Example, example_of


@contextmanager
def in_its_type(model: Any, config: UnlearnConfig) -> Iterator[Any]:
    """The model as its answers are drawn in training: with ``bf16`` its weights are rounded meanwhile.

    What is drawn in training supports no statement: it may come from the faster law, as what is trained does.
    """
    model = inner(model)
    kept = [(p, p.data) for p in (model.parameters() if config.bf16 else ()) if p.dtype == torch.float32]
    try:
        for parameter, data in kept:
            parameter.data = data.to(torch.bfloat16)
        yield model
    finally:
        for parameter, data in kept:
            parameter.data = data


def draw_answers(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    config: UnlearnConfig,
    *,
    count: int,
    round: int,
    params: SamplingParams | None = None,
    progress: bool = False,
) -> list[list[Draw]]:
    """``count`` answers of the model to each question, in the order of their first draw; no two rounds share a draw.

    They are sampled as ``params`` says, by default from the model's own law.
    """
    training = model.training
    prompts = tuple(pair.prompt(str(i)) for i, pair in enumerate(pairs))
    shard = Shard(prompts, first=round * count, num_samples=count, seed=config.seed)
    answers: list[list[Draw]] = [[] for _ in pairs]
    title = f"sampling {config.out.name}, round {round + 1}"
    with in_its_type(model, config) as asked, Progress(title, count * len(pairs), "draws", show=progress) as shown:
        sampler = HFModel(asked, tokenizer, template=config.template)
        for piece, _ in in_pieces(sampler, shard, params or SamplingParams(max_tokens=config.max_tokens)):
            for draw in piece:
                text = read_answer(tokenizer, draw.text, config.template)  # as data are written, to be encoded as such
                answers[int(draw.prompt_id)].append(replace(draw, text=text))
            shown.advance(sum(draw.count for draw in piece))
    model.train(training)
    return [sorted(some, key=lambda draw: draw.first) for some in answers]


def choose_answer(draws: Sequence[Draw], initial: str) -> tuple[Draw, float]:
    """The answer least like the model's initial one, the first of equals, and its score: ROUGE-L recall, stemmed."""
    scored = [(rouge_l(draw.text, initial), draw.first, draw) for draw in draws]
    score, _, draw = min(scored, key=lambda one: one[:2])
    return draw, score


class AnswerAnew:
    """Partial model collapse: the model's own answers that are trained on, drawn anew for every step.

    Of ``pmc_samples`` answers to a question the one least like the model's *initial greedy* answer is chosen
    (:func:`choose_answer`; no answer of the data enters). It replaces the one that was kept so far where it is not more
    alike; a question whose kept answer scores 0 is asked no more. arXiv 2507.04219, as its authors' code does it.
    """

    def __init__(self, model: Any, tokenizer: Any, pairs: Sequence[Pair], config: UnlearnConfig) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.pairs = {pair.question: pair for pair in pairs}
        first = self._draw(list(self.pairs), 1, 0, SamplingParams(temperature=0, max_tokens=config.max_tokens))
        self.initial = {question: draws[0].text for question, draws in first.items()}
        self.kept: dict[str, tuple[Example, float]] = {}

    def __call__(self, questions: Sequence[str], step: int) -> dict[str, Example]:
        """What is trained on in a step, by question: the best answers so far, the model's present ones among them."""
        config = self.config
        open_ = [q for q in dict.fromkeys(questions) if q not in self.kept or self.kept[q][1] > 0]
        decoding = SamplingParams(
            temperature=config.pmc_temperature, top_p=config.pmc_top_p, max_tokens=config.max_tokens
        )
        for question, draws in self._draw(open_, config.pmc_samples, step, decoding).items():
            draw, score = choose_answer(draws, self.initial[question])
            if question not in self.kept or score <= self.kept[question][1]:
                self.kept[question] = self._example(question, draw), score
        return {question: self.kept[question][0] for question in questions}

    def _draw(self, questions: list[str], count: int, round: int, params: SamplingParams) -> dict[str, list[Draw]]:
        asked = [self.pairs[question] for question in questions]
        if not asked:
            return {}
        given = self.model, self.tokenizer, asked, self.config
        return dict(zip(questions, draw_answers(*given, count=count, round=round, params=params), strict=True))

    def _example(self, question: str, draw: Draw) -> Example:
        head, tokens = encode_pair(self.tokenizer, question, draw.text, self.config.template)
        cut = draw.finish_reason == "length" and len(tokens) > 1
        return example_of(head, tokens[:-1] if cut else tokens, self.pairs[question])
