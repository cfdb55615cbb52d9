"""Which loss terms make up a method: a table of terms for each half, one of their published combinations.

A new method is a function in losses/ and a line here, or an entry point ``leakbound.methods`` of another package.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from leakbound.errors import InputError
from leakbound.plugins import Table
from leakbound.unlearning import losses
from leakbound.unlearning.groups import Several
from leakbound.unlearning.passes import Half
from leakbound.unlearning.published import ALIASES, plain_name


@dataclass(frozen=True)
class Term:
    """A loss and where its arguments come from.

    ``needs`` names the fields of the forward pass (:class:`leakbound.unlearning.passes.Half`) that the loss takes, in
    order; ``refusal.`` and ``mismatch.`` are the same question with another answer, ``group.`` several answers to it
    (:class:`leakbound.unlearning.groups.Several`). ``settings`` are the loss's keywords: setting of the run -> the
    value that stands where the run gives none or has no such setting. ``counted``
    names the field with the tokens of each row, for the mean over tokens; where there is none, a row counts as one.
    """

    loss: Callable[..., Tensor]
    needs: tuple[str, ...]
    settings: Mapping[str, float | str] = field(default_factory=dict)
    counted: str = ""

    def __post_init__(self) -> None:
        known = {"", *(name for one in (Half, Several) for name in (*vars(one), *one.__dataclass_fields__))}
        if odd := [need for need in (*self.needs, self.counted) if not known.issuperset(need.split("."))]:
            raise InputError(
                f"needs is {odd}: a forward pass has {', '.join(sorted(n for n in known if n.strip('_') == n != ''))}"
            )


@dataclass(frozen=True)
class Objective:
    """What is minimised: a term on the forget half and a term on the retain half, either of which may be absent."""

    forget: Term | None = None
    retain: Term | None = None

    def needs(self, half: str) -> tuple[str, ...]:
        """What the term of one half takes, or nothing where there is no term."""
        term: Term | None = getattr(self, half)
        return term.needs if term else ()

    def uses(self, name: str) -> bool:
        """Whether a term of either half takes a field of this name, or a field of the answers of this name."""
        return any(name in need.split(".") for half in ("forget", "retain") for need in self.needs(half))


GRADED = tuple(f"group.{name}" for name in
               ("token_logps", "spoken", "shares", "advantages", "drawn_logps", "first_logps"))  # fmt: skip

TERMS: dict[str, dict[str, Term]] = {
    "forget": {
        "ga": Term(losses.grad_ascent, ("logps", "lengths"), counted="lengths"),
        "npo": Term(losses.npo, ("logps", "ref_logps"), {"beta": 0.1}),
        "simnpo": Term(losses.simnpo, ("logps", "lengths"), {"beta": 2.5, "gamma": 0.0}),
        "dpo": Term(losses.dpo, ("logps", "ref_logps", "refusal.logps", "refusal.ref_logps"), {"beta": 0.1}),
        "idk": Term(losses.nll, ("refusal.logps", "refusal.lengths"), counted="refusal.lengths"),
        "me": Term(losses.max_entropy, ("laws", "me_mask"), {"me_direction": "uniform"}, "me_mask"),
        "mismatch": Term(losses.mismatch, ("mismatch.logps", "mismatch.lengths"), counted="mismatch.lengths"),
        "llmu": Term(losses.llmu, ("logps", "lengths", "mismatch.logps", "mismatch.lengths"), {"mismatch_weight": 1.0}),
        "rmu": Term(losses.rmu, ("hidden", "direction", "text_mask"), {"rmu_scale": 6.5}, "text_mask"),
        "undial": Term(losses.undial, ("laws", "ref_laws", "labels"), {"undial_strength": 10.0}, "lengths"),
        "wga": Term(losses.wga, ("laws", "labels"), {"wga_power": 1.0}, "lengths"),
        "satimp": Term(losses.satimp, ("laws", "labels"), {"saturation": 5.0, "importance": 1.0}, "lengths"),
        "ce_u": Term(losses.ce_u, ("laws", "later_labels"), counted="later_lengths"),
        "jensun": Term(losses.jensun, ("laws", "labels", "target"), counted="lengths"),
        "pmc": Term(losses.nll, ("sampled.logps", "sampled.lengths"), counted="sampled.lengths"),
        "leak_mass": Term(losses.leak_mass, ("group.logps", "group.token_logps", "group.leaving_logps")),
        "grpo": Term(losses.grpo, GRADED, {"grpo_clip": 0.2, "grpo_kl": 0.04}),
    },
    "retain": {
        "gd": Term(losses.nll, ("logps", "lengths"), counted="lengths"),
        "kl": Term(losses.kl_retain, ("laws", "ref_laws", "kl_mask"), counted="kl_mask"),
        "ap": Term(losses.answer_preservation, ("logps", "refusal.logps"), {"beta": 0.1}),
        "js": Term(losses.jensen_shannon, ("laws", "ref_laws", "answer_mask"), counted="answer_mask"),
        "rmu": Term(losses.rmu_retain, ("hidden", "ref_hidden", "text_mask"), counted="text_mask"),
    },
}
"""The terms of either half by name."""

KEYWORDS = {
    "me_direction": "direction", "rmu_scale": "scale", "undial_strength": "strength", "wga_power": "power",
    "grpo_clip": "clip", "grpo_kl": "kl_weight",
}  # fmt: skip
"""Settings of a run whose name in the loss is shorter."""

_METHODS = {
    name: Objective(TERMS["forget"][forget], TERMS["retain"][retain] if retain else None)
    for name, forget, retain in (
        ("grad_ascent", "ga", ""),
        ("grad_diff", "ga", "gd"),
        ("grad_ascent_kl", "ga", "kl"),
        ("npo", "npo", ""),
        ("npo_gd", "npo", "gd"),
        ("npo_kl", "npo", "kl"),
        ("dpo_gd", "dpo", "gd"),
        ("dpo_kl", "dpo", "kl"),
        ("idk_gd", "idk", "gd"),
        ("idk_kl", "idk", "kl"),
        ("idk_ap", "idk", "ap"),
        ("me_gd", "me", "gd"),
        ("simnpo", "simnpo", ""),
        ("simnpo_gd", "simnpo", "gd"),
        ("llmu", "llmu", "kl"),
        ("rmu", "rmu", "rmu"),
        ("undial", "undial", ""),
        ("undial_gd", "undial", "gd"),
        ("wga", "wga", ""),
        ("wga_gd", "wga", "gd"),
        ("satimp", "satimp", ""),
        ("satimp_gd", "satimp", "gd"),
        ("ce_u", "ce_u", ""),
        ("ce_u_gd", "ce_u", "gd"),
        ("jensun", "jensun", "js"),
        ("pmc", "pmc", "gd"),
        ("leak_mass", "leak_mass", ""),
        ("leak_mass_gd", "leak_mass", "gd"),
        ("grpo", "grpo", ""),
        ("grpo_gd", "grpo", "gd"),
    )
}

METHODS: Table[Objective] = Table("method", "leakbound.methods", Objective, _METHODS)
"""The methods by name. A package adds an :class:`Objective`; its forget term can then be joined like ours."""

LEARN = Objective(retain=TERMS["retain"]["gd"])
"""Plain training: something to retain and nothing to forget."""


def find_objective(name: str) -> Objective:
    """The objective called ``name``, in any published spelling (``NPO+GD``, ``CE-U``), or a pair ``forget:retain``.

    Case does not matter, nor which of ``+``, ``-``, ``_`` and a blank joins the words. The retain side of a pair may be
    ``none``.
    """
    plain = plain_name(name)
    theirs = next((brought for brought in METHODS.brought if plain_name(brought) == plain), None)
    plain = ALIASES.get(plain, plain)
    ours = METHODS.own.get(plain) or _pair(plain)
    if theirs is not None and ours is not None:
        raise METHODS.refuse(theirs, METHODS.brought[theirs])
    if found := ours if theirs is None else METHODS[theirs]:
        return found
    raise InputError(
        f"method is {name!r}: give one of {', '.join(METHODS)}, or a pair forget:retain of "
        f"{', '.join(TERMS['forget'])} with {', '.join(TERMS['retain'])}, none"
    )


def _pair(plain: str) -> Objective | None:
    """The objective of two terms that are joined, or None."""
    name, joint, retain = plain.partition(":") if ":" in plain else plain.rpartition("_")
    if not joint or retain not in (*TERMS["retain"], "none"):
        return None
    theirs = next((brought for brought in METHODS.brought if plain_name(brought) == name), None)
    forget = TERMS["forget"].get(name) or (None if theirs is None else METHODS[theirs].forget)
    return Objective(forget, TERMS["retain"].get(retain)) if forget else None
