"""Forward passes: one for each half of a batch, whose outputs all terms of the loss share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from leakbound.unlearning import losses
from leakbound.unlearning.data import ANSWERS, IGNORED
from leakbound.unlearning.groups import Groups, Several
from leakbound.unlearning.heads import laws_of
from leakbound.unlearning.losses.blocks import Laws

REFERENCES = ("ref_laws", "ref_logits", "ref_hidden")
"""What only a reference model in memory can give."""
SHORT_ROWS = 128
"""Tokens of the longest rows whose attention is computed by plain products, in bfloat16 on a CPU."""


@dataclass(frozen=True)
class Half:
    """One half of a batch after its forward pass: everything a loss term can ask for, each computed at most once.

    ``laws`` are what losses of distributions take: computed some rows at a time. ``logits`` are all of them at once.
    ``refusal``, ``mismatch`` and ``sampled`` are the same questions with another answer, from the same pass; ``group``
    are several answers to each, from a pass of their own.
    """

    laws: Laws
    labels: Tensor
    attention_mask: Tensor
    me_positions: str = "text"
    kl_positions: str = "text"
    skip: int = 0
    direction: Tensor | None = None
    target: Tensor | None = None
    ref_logps: Tensor | None = None
    ref_laws: Laws | None = None
    hidden: Tensor | None = None
    ref_hidden: Tensor | None = None
    refusal: Half | None = None
    mismatch: Half | None = None
    sampled: Half | None = None
    group: Several | None = None

    @cached_property
    def logits(self) -> Tensor:
        """The logits of all positions, (B, L, V)."""
        return self.laws.logits()

    @cached_property
    def ref_logits(self) -> Tensor:
        """Those of the reference model."""
        assert self.ref_laws is not None  # the pass ran it
        return self.ref_laws.logits()

    @cached_property
    def logps(self) -> Tensor:
        """Log-probabilities of the answers, (B,)."""
        return losses.sequence_logps(self.laws, self.labels)

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of the answers, (B,)."""
        return losses.answer_lengths(self.labels)

    @cached_property
    def later_labels(self) -> Tensor:
        """The labels without the first ``skip`` tokens of each answer, (B, L)."""
        return self.labels.masked_fill((self.labels != IGNORED).cumsum(dim=1) <= self.skip, IGNORED)

    @cached_property
    def later_lengths(self) -> Tensor:
        """The tokens that are left, (B,)."""
        return losses.answer_lengths(self.later_labels)

    @cached_property
    def answer_mask(self) -> Tensor:
        """Positions that predict an answer token, (B, L)."""
        return losses.predicts_answer(self.labels)

    @cached_property
    def unsaid_mask(self) -> Tensor:
        """Those of them whose likeliest next token is another one, (B, L)."""
        return self.answer_mask & ~losses.says_answer(self.laws, self.labels)

    @cached_property
    def clean_mask(self) -> Tensor:
        """All of them in rows where most likeliest next tokens are other ones, (B, L)."""
        return self.answer_mask & (2 * self.unsaid_mask.sum(dim=1) > self.lengths).unsqueeze(1)

    @cached_property
    def text_mask(self) -> Tensor:
        """Positions of question and answer tokens, (B, L)."""
        return self.attention_mask.bool()

    @cached_property
    def all_mask(self) -> Tensor:
        """Every position, padding included, (B, L)."""
        return torch.ones_like(self.attention_mask, dtype=torch.bool)

    @property
    def me_mask(self) -> Tensor:
        """The positions of max_entropy, as the run sets them; of all those but the last, which predicts nothing."""
        mask: Tensor = getattr(self, f"{self.me_positions}_mask")
        return mask if self.me_positions != "all" else torch.nn.functional.pad(mask[:, 1:], (0, 1))

    @property
    def kl_mask(self) -> Tensor:
        """The positions of kl_retain, as the run sets them."""
        mask: Tensor = getattr(self, f"{self.kl_positions}_mask")
        return mask

    def counts(self, name: str) -> Tensor:
        """The tokens of each row that a field counts, (B,): lengths, or a mask's positions."""
        found: Tensor = attrgetter(name)(self)
        return found if found.dim() == 1 else found.sum(dim=1)

    def take(self, needs: Iterable[str]) -> list[Any]:
        """The fields of these names, in order."""
        return [attrgetter(need)(self) for need in needs]


@dataclass(frozen=True)
class Passes:
    """How a half is sent through the model: which layer's states are wanted, and what stands for the reference.

    ``layer`` counts from 1, the first layer's output; ``direction`` is RMU's unit vector, ``me_positions`` and
    ``kl_positions`` the masks of max_entropy and kl_retain (answer, text or all), ``target`` the tokens that JensUn
    teaches, ``skip`` how many first tokens of an answer CE-U leaves out.
    ``reference`` gives the reference model for the time of a pass: another model, or the model itself with its adapter
    switched off. ``groups`` holds several answers to each forget question. ``adds``: gradients are only added up.
    """

    layer: int | None = None
    direction: Tensor | None = None
    me_positions: str = "text"
    reference: Callable[[], AbstractContextManager[Any]] | None = None
    target: Tensor | None = None
    kl_positions: str = "text"
    skip: int = 0
    groups: Groups | None = None
    adds: bool = False

    def run(
        self, model: Any, batch: dict[str, Any], needs: Iterable[str], *, own: bool = False, whole: bool = False
    ) -> Half:
        """One pass over the rows that ``needs`` asks for, and one of the reference where it is asked for.

        ``own`` also takes the rows of the answers themselves where no term needs them (for the entropy and the guard).
        Where only answers are looked at, the model's last layer leaves out the positions before the first of them:
        every field then begins there. ``whole`` keeps them.
        """
        asked = set(needs)
        own = own or any("." not in need for need in asked)
        group = None
        if _asks(asked, "group"):
            assert self.groups is not None  # the command makes them where an objective looks at groups
            group = self.groups.read(model, batch["answer"]["questions"])
        kinds = [kind for kind in ANSWERS if kind in batch and (own if kind == "answer" else _asks(asked, kind))]
        if not kinds:  # no term looks at single answers
            rows = batch["answer"]
            return Half(Laws(rows["labels"].new_zeros(0)), rows["labels"], rows["attention_mask"], group=group)
        rows = {
            n: torch.cat(_pad_to_longest([batch[kind][n] for kind in kinds])) for n in ("input_ids", "attention_mask")
        }
        of_questions = self.masks(asked) - {"answer"} or asked & {"hidden", "ref_hidden"}
        skipped = 0 if whole or of_questions else _first_answer([batch[k]["labels"] for k in kinds])
        outputs = self._forward(model, rows, asked, "hidden", skipped)
        if asked.intersection(REFERENCES):
            assert self.reference is not None  # the command makes one where an objective needs it
            with torch.no_grad(), self.reference() as ref_model:
                known = self._forward(ref_model, rows, asked, "ref_hidden", skipped)
            outputs |= {f"ref_{name}": value for name, value in known.items()}
        halves: dict[str, Half] = {}
        start = 0
        for kind in kinds:
            count, length = batch[kind]["input_ids"].shape
            length -= skipped
            part: dict[str, Any] = {
                name: value[start : start + count, :length] if isinstance(value, Tensor) else
                value.cut(slice(start, start + count), slice(length)) for name, value in outputs.items()
            }  # fmt: skip
            halves[kind] = Half(
                labels=batch[kind]["labels"][:, skipped:],
                attention_mask=batch[kind]["attention_mask"][:, skipped:],
                ref_logps=batch[kind].get("ref_logps"),
                me_positions=self.me_positions,
                kl_positions=self.kl_positions,
                skip=self.skip,
                direction=self.direction,
                target=self.target,
                **part,
            )
            start += count
        others: dict[str, Any] = {kind: half for kind, half in halves.items() if kind != "answer"}
        return replace(halves.get("answer") or next(iter(others.values())), group=group, **others)

    def masks(self, needs: Iterable[str]) -> set[str]:
        """The positions that are looked at: answer, text or all."""
        own = {"me_mask": f"{self.me_positions}_mask", "kl_mask": f"{self.kl_positions}_mask"}
        masks = {own.get(need, need) for need in needs}
        return {mask.removesuffix("_mask") for mask in masks if mask.endswith("_mask")}

    def _forward(
        self, model: Any, rows: dict[str, Tensor], asked: set[str], hidden: str, skipped: int
    ) -> dict[str, Any]:
        wanted = hidden in asked and self.layer is not None
        options = {"output_hidden_states": True} if wanted else {}
        laws, result = laws_of(model, rows, skipped=skipped, adds=self.adds, **options)
        return {"laws": laws, **({"hidden": result.hidden_states[self.layer]} if wanted else {})}


def attention_of(device: torch.device, bf16: bool, batch: Mapping[str, Any]) -> AbstractContextManager[None]:
    """How attention is computed in a pass and its backward pass: short rows in bfloat16 on a CPU by plain products.

    There torch's fused kernel takes twice as long or more for rows of 32 and of 67 tokens, 1.3 times for 128, and half
    for 256 (torch 2.13, docs/results/training.md).
    """
    longest = max(rows["input_ids"].shape[1] for half in batch.values() for rows in half.values())
    plain = bf16 and device.type == "cpu" and longest <= SHORT_ROWS
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def _first_answer(labels: list[Tensor]) -> int:
    """The first position that predicts an answer token in any row."""
    return max(0, min(int((rows != IGNORED).any(dim=0).int().argmax()) for rows in labels) - 1)


def _asks(needs: set[str], kind: str) -> bool:
    return any(need.startswith(f"{kind}.") for need in needs)


def _pad_to_longest(tensors: list[Tensor]) -> list[Tensor]:
    """Rows of one length; what is added is token 0 behind a mask of 0, and cut off again after the pass."""
    length = max(tensor.shape[1] for tensor in tensors)
    return [torch.nn.functional.pad(tensor, (0, length - tensor.shape[1])) for tensor in tensors]
