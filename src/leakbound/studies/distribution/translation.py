"""Encoder-decoder models (T5 class) in the distribution study: training, unlearning and measuring of translations."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from leakbound.errors import InputError, TrainingError
from leakbound.models.hf.loading import load_model, load_tokenizer, without_bars
from leakbound.studies.distribution.corpora import Item
from leakbound.studies.distribution.learners import Learning, Said, Speaker, Unlearning, Watch, likelihoods
from leakbound.unlearning import running
from leakbound.unlearning.data import IGNORED
from leakbound.unlearning.objectives import KEYWORDS, Objective, Term, find_objective
from leakbound.unlearning.scratch import train_tokenizer

SIZES = {"nano": (64, 2, 4), "tiny": (128, 3, 4)}
"""Width, layers on each side, heads of a new T5."""
VOCABULARY = 1024
NEEDS = {"logps", "lengths", "ref_logps"}
"""What an encoder-decoder model gives a loss."""
ROWS = 64
"""Rows of a batch that is only measured."""


@dataclass(frozen=True)
class TranslationSpeaker:
    """An encoder-decoder model that can be measured."""

    model: Any
    tokenizer: Any
    max_tokens: int

    @torch.no_grad()
    def likelihoods(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> list[list[Said]]:
        """The given translations of each source, by teacher forcing."""
        flat = [(q, a) for q, row in zip(questions, answers, strict=True) for a in row]
        said: list[Said] = []
        for start in range(0, len(flat), ROWS):
            batch = encode(self.tokenizer, flat[start : start + ROWS], self.model.device)
            logits = self.model(**batch).logits
            labels = batch["labels"]
            scored = labels != IGNORED
            logps = token_logps(logits, labels).sum(1).double()
            right = ((logits.argmax(-1) == labels) | ~scored).all(1)
            said += [Said(*row) for row in zip(logps.tolist(), scored.sum(1).tolist(), right.tolist(), strict=True)]
        rows = iter(said)
        return [[next(rows) for _ in row] for row in answers]

    @torch.no_grad()
    def answer(self, questions: Sequence[str]) -> list[str]:
        """The greedy translation of each source."""
        texts: list[str] = []
        for start in range(0, len(questions), ROWS):
            sources = self.tokenizer(list(questions[start : start + ROWS]), padding=True, return_tensors="pt")
            sources = {name: sources[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            out = self.model.generate(**sources, max_new_tokens=self.max_tokens, do_sample=False, num_beams=1)
            texts += self.tokenizer.batch_decode(out, skip_special_tokens=True)
        return [text.strip() for text in texts]


@dataclass(frozen=True)
class TranslationLearner:
    """Trains and unlearns encoder-decoder models with AdamW: from scratch, or from a model of the user's."""

    how: Learning

    def make_tokenizer(self, items: Sequence[Item], folder: Path) -> None:
        """A byte-level tokenizer of the items' text, or the user's model's own."""
        if self.how.model is not None:
            load_tokenizer(self.how.model).save_pretrained(folder)
            return
        texts = [text for item in items for text in (item.question, item.answer)]
        train_tokenizer(texts, VOCABULARY).save_pretrained(folder)

    def train(
        self, items: Sequence[Item], watched: Sequence[Item], *, seed: int, tokenizer: Path, folder: Path
    ) -> NDArray[np.bool_]:
        """Minimise the mean over examples of -log p(y|x) / |y|; cosine schedule after a tenth of warm-up."""
        how, words = self.how, load_tokenizer(str(tokenizer))
        with running.own_randomness():
            torch.manual_seed(seed)
            model = new_t5(how.size, words) if how.model is None else load_t5(how.model)
            speaker = TranslationSpeaker(model, words, how.max_tokens)
            pairs = [(x.question, x.answer) for x in items]
            steps = how.epochs * math.ceil(len(pairs) / how.batch_size)
            optimiser = torch.optim.AdamW(model.parameters(), lr=how.learning_rate, weight_decay=0.01)
            done, reproduced = 0, []
            for epoch in range(how.epochs):
                model.train()
                for batch in _batches(pairs, how.batch_size, Random(f"{seed}/{epoch}/order")):
                    rate = how.learning_rate * _cosine(done, steps)
                    logps, lengths = _score(model, words, batch)
                    _step(optimiser, model, (-logps / lengths).mean(), rate)
                    done += 1
                model.eval()
                reproduced.append([said.reproduced for said in likelihoods(speaker, watched)])
        with without_bars():
            model.save_pretrained(folder)
        words.save_pretrained(folder)
        return np.array(reproduced, dtype=bool).reshape(len(reproduced), len(watched))

    def unlearn(
        self, model: Path, forget: Sequence[Item], retain: Sequence[Item], how: Unlearning, *, seed: int, watch: Watch
    ) -> None:
        """Objectives of :mod:`leakbound.unlearning.objectives` that look at log-probabilities of answers only."""
        objective = find_objective(how.method)
        check_objective(objective, how.method)
        pairs, kept = ([(x.question, x.answer) for x in items] for items in (forget, retain))
        with running.own_randomness():
            torch.manual_seed(seed)
            net = load_t5(str(model))
            words = load_tokenizer(str(model))
            speaker = TranslationSpeaker(net, words, self.how.max_tokens)
            watch(speaker, 0)
            frozen = copy.deepcopy(net).eval() if "ref_logps" in objective.needs("forget") else None
            optimiser = torch.optim.AdamW(net.parameters(), lr=how.learning_rate, weight_decay=0.01)
            stream, partners = _forever(pairs, how.batch_size, seed), _forever(kept, how.batch_size, seed + 1)
            for done in range(1, how.steps + 1):
                net.train()
                loss = torch.zeros((), device=net.device)
                if objective.forget and how.forget_weight:
                    loss = loss + how.forget_weight * _term(objective.forget, net, frozen, words, next(stream))
                if objective.retain and how.retain_weight:
                    loss = loss + how.retain_weight * _term(objective.retain, net, frozen, words, next(partners))
                _step(optimiser, net, loss, how.learning_rate)
                if done % how.every == 0 or done == how.steps:
                    net.eval()
                    watch(speaker, done)

    def load(self, model: Path) -> Speaker:
        """A saved model."""
        return TranslationSpeaker(load_t5(str(model)), load_tokenizer(str(model)), self.how.max_tokens)


def check_objective(objective: Objective, method: str) -> None:
    """Refuse an objective that looks at more than log-probabilities of answers."""
    asked = {need for half in ("forget", "retain") for need in objective.needs(half)}
    if asked - NEEDS or "ref_logps" in objective.needs("retain"):
        raise InputError(
            f"method is {method!r}, which needs {', '.join(sorted(asked - NEEDS))} of the model: for translation give "
            "one of grad_ascent, grad_diff, npo, npo_gd, simnpo, simnpo_gd"
        )


def new_t5(size: str, tokenizer: Any) -> T5ForConditionalGeneration:
    """A T5 with random weights from torch's current random state; no dropout."""
    if size not in SIZES:
        raise InputError(f"size is {size!r}: give one of {', '.join(SIZES)} for translation")
    width, layers, heads = SIZES[size]
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=width // heads, d_ff=3 * width, num_layers=layers,
        num_decoder_layers=layers, num_heads=heads, dropout_rate=0.0, feed_forward_proj="gated-gelu",
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def load_t5(name: str) -> Any:
    """An encoder-decoder model in float32, in eval mode; weights from safetensors only."""
    return load_model(name, dtype="float32", kind=AutoModelForSeq2SeqLM)


def encode(tokenizer: Any, pairs: Sequence[tuple[str, str]], device: Any) -> dict[str, Tensor]:
    """Sources and translations as tensors; every translation ends with the end token, padding is ``IGNORED``."""
    end = tokenizer.eos_token_id
    sources = tokenizer([source for source, _ in pairs], padding=True, return_tensors="pt")
    targets = [list(tokenizer(target)["input_ids"]) for _, target in pairs]
    targets = [ids if ids and ids[-1] == end else [*ids, end] for ids in targets]
    longest = max(map(len, targets))
    labels = torch.tensor([ids + [IGNORED] * (longest - len(ids)) for ids in targets])
    batch = {"input_ids": sources["input_ids"], "attention_mask": sources["attention_mask"], "labels": labels}
    return {name: value.to(device) for name, value in batch.items()}


def token_logps(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Log-probability of each token of the translation, 0 on padding; (B, L), nats. Position t predicts token t."""
    nll = torch.nn.functional.cross_entropy(
        logits_BLV.float().flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return -nll.view(labels_BL.shape)


def _score(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """log p(y|x) and |y| of each pair, both (B,)."""
    batch = encode(tokenizer, pairs, model.device)
    return token_logps(model(**batch).logits, batch["labels"]).sum(1), (batch["labels"] != IGNORED).sum(1)


def _term(term: Term, model: Any, frozen: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """The mean of a loss term over a batch."""
    logps, lengths = _score(model, tokenizer, pairs)
    given: dict[str, Tensor] = {"logps": logps, "lengths": lengths}
    if "ref_logps" in term.needs:
        with torch.no_grad():
            given["ref_logps"] = _score(frozen, tokenizer, pairs)[0]
    settings = {KEYWORDS.get(name, name): value for name, value in term.settings.items()}
    return term.loss(*(given[name] for name in term.needs), **settings).mean()


def _step(optimiser: torch.optim.Optimizer, model: Any, loss: Tensor, rate: float) -> None:
    if not math.isfinite(loss.item()):
        raise TrainingError(f"the loss is {loss.item()}: lower the learning rate or train for fewer steps")
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _cosine(done: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if done < warm:
        return (done + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, steps - warm)))


def _batches(pairs: list[tuple[str, str]], size: int, rng: Random) -> Iterator[list[tuple[str, str]]]:
    order = rng.sample(pairs, k=len(pairs))
    return (order[start : start + size] for start in range(0, len(order), size))


def _forever(pairs: list[tuple[str, str]], size: int, seed: int) -> Iterator[list[tuple[str, str]]]:
    epoch = 0
    while pairs:
        yield from _batches(pairs, size, Random(f"{seed}/{epoch}/unlearning"))
        epoch += 1
