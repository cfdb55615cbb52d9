"""Which loss terms make up a method: one table of terms, one of their published combinations.

A new method is a function in losses.py and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from leakbound.errors import InputError
from leakbound.unlearning import losses


@dataclass(frozen=True)
class Term:
    """A loss and where its arguments come from.

    ``needs`` names the fields of the forward pass (:class:`leakbound.unlearning.trainer.Half`) that the loss takes, in
    order; ``settings`` the fields of the configuration that it takes by keyword.
    """

    loss: Callable[..., Tensor]
    needs: tuple[str, ...]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Objective:
    """What is minimised: a term on the forget half and a term on the retain half, either of which may be absent."""

    forget: Term | None = None
    retain: Term | None = None

    def needs(self, half: str) -> tuple[str, ...]:
        """What the term of one half takes, or nothing where there is no term."""
        term: Term | None = getattr(self, half)
        return term.needs if term else ()


TERMS: dict[str, Term | None] = {
    "ga": Term(losses.grad_ascent, needs=("logps", "lengths")),
    "npo": Term(losses.npo, needs=("logps", "ref_logps"), settings=("beta",)),
    "gd": Term(losses.nll, needs=("logps", "lengths")),
    "kl": Term(losses.kl_retain, needs=("logits", "ref_logits", "text_mask")),
    "none": None,
}

OBJECTIVES: dict[str, Objective] = {
    "grad_ascent": Objective(forget=TERMS["ga"]),
    "grad_diff": Objective(forget=TERMS["ga"], retain=TERMS["gd"]),
    "grad_ascent_kl": Objective(forget=TERMS["ga"], retain=TERMS["kl"]),
    "npo": Objective(forget=TERMS["npo"]),
    "npo_gd": Objective(forget=TERMS["npo"], retain=TERMS["gd"]),
    "npo_kl": Objective(forget=TERMS["npo"], retain=TERMS["kl"]),
}

LEARN = Objective(retain=TERMS["gd"])
"""Plain training: something to retain and nothing to forget."""


def find_objective(name: str) -> Objective:
    """The objective called ``name`` in the table, or the pair ``forget:retain`` of two terms (``npo:kl``)."""
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    forget, colon, retain = name.partition(":")
    if colon and forget in TERMS and retain in TERMS and TERMS[forget] is not None:
        return Objective(forget=TERMS[forget], retain=TERMS[retain])
    raise InputError(
        f"method is {name!r}: give one of {', '.join(OBJECTIVES)}, or a pair forget:retain of {', '.join(TERMS)}"
    )
