"""What a policy file says: models, claims about them, and alpha for all of it; read strictly."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from leakbound.auditing.drawing import Statement
from leakbound.auditing.settings import How
from leakbound.bounds import Claim
from leakbound.bounds.claims import at_least_claim
from leakbound.bounds.gate import check_alpha
from leakbound.errors import InputError
from leakbound.models.opening import Loading
from leakbound.records import SamplingParams, check_count
from leakbound.runs.files import read_yaml
from leakbound.scoring import is_built_in

Of = Literal["every", "average", "each"]
NESTED = {"params": SamplingParams, "loading": Loading}
"""Settings of How that hold settings of their own, which stand beside them in a policy."""
PARTS = (*NESTED, "how")
OF_RUN = {"num_samples", "threshold", "seed", *(f.name for f in fields(SamplingParams))}
"""What a claim that is ``not_worse_than`` a run takes from that run, and cannot set."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One claim about every model of a policy, or about some of them."""

    name: str = ""
    """What it is called in the results; by default what it says."""
    prompts: str = ""
    """What is asked: a file, or a data set of the hub."""
    claim: str = ""
    """``leak<=0.01``, ``mean<=0.05`` or ``known>=0.95``."""
    of: Of | None = None
    """Whose probability: every prompt's at once (the default of leak and mean), the average prompt's (the only one of
    known), or each one's alone."""
    not_worse_than: str = ""
    """In place of prompts and claim: a run folder of an audit. The average P(leak) on its prompts may not be larger,"""
    by: float = 0.0
    """but for this much."""
    models: tuple[str, ...] = ()
    """The models that it is about; by default all of them."""
    system: str = ""
    """A system message before every prompt."""
    num_samples: int = 4096
    """The most draws of each prompt; drawing stops where its verdict has fallen."""
    how: How = How()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        texts = {name: getattr(self, name) for name in ("name", "prompts", "claim", "not_worse_than", "system")}
        for name, value in {**texts, "scorer": self.how.scorer, "template": self.how.template}.items():
            if not isinstance(value, str):
                raise InputError(f"{name} is {value!r}: give a text, or leave {name} out")
        if isinstance(self.by, bool) or not isinstance(self.by, int | float):
            raise InputError(f"by is {self.by!r}: give a number in [0, 1)")
        check_count("num_samples", self.num_samples, least=1)
        check_count("seed", self.how.seed, least=0)
        if not isinstance(self.models, list | tuple) or not all(isinstance(name, str) for name in self.models):
            raise InputError(f"models is {self.models!r}: give a list of names")
        object.__setattr__(self, "models", tuple(self.models))
        if bool(self.not_worse_than) == bool(self.claim):
            raise InputError(f"claim is {self.claim!r} and not_worse_than {self.not_worse_than!r}: give one of the two")
        if self.not_worse_than:
            if self.prompts or self.of or self.system or not 0 <= self.by < 1:
                raise InputError(
                    f"beside not_worse_than give by alone, a number in [0, 1): prompts is {self.prompts!r}, of is "
                    f"{self.of!r}, system is {self.system!r}, by is {self.by!r}"
                )
            return
        if self.by:
            raise InputError(
                f"by is {self.by!r} beside claim {self.claim!r}: it belongs to not_worse_than; leave it out"
            )
        if not self.prompts:
            raise InputError(f"claim is {self.claim!r} and prompts is empty: say what is asked")
        Statement(self.how.scorer, self.how.threshold, self.how.alpha)
        of = self.of or ("average" if self.known is not None else "every")
        if of not in get_args(Of) or (self.known is not None and of != "average"):
            raise InputError(f"of is {self.of!r}: give every, average or each; of known it is the average prompt")
        if self.known is None and self.quantity == "mean" and of == "average":
            raise InputError("of is 'average' and claim about the mean: give every or each, or a claim about leak")
        object.__setattr__(self, "of", of)
        if not self.how.params.temperature > 0:
            raise InputError("temperature is 0: one answer is no sample; give a number above 0")

    @property
    def known(self) -> float | None:
        """The limit of a claim that answers are right; None for others."""
        return at_least_claim(self.claim) if self.claim.strip().startswith("known") else None

    @property
    def quantity(self) -> str:
        """``leak`` or ``mean``."""
        return Claim.parse(self.claim, self.how.alpha).quantity

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or (f"not worse than {self.not_worse_than}" if self.not_worse_than else self.claim)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Everything that is checked at once: each verdict that is printed is wrong with probability alpha at most, in all.

    Each claim about each model has an equal share of ``alpha`` (union bound).
    """

    models: Mapping[str, str]
    """The models by name."""
    claims: tuple[Demand, ...]
    alpha: float = 0.01

    def __post_init__(self) -> None:
        if not self.models or not self.claims:
            raise InputError(
                f"models is {dict(self.models)} and there are {len(self.claims)} claims: give some of each"
            )
        if odd := [value for value in self.models.values() if not isinstance(value, str)]:
            raise InputError(f"a model is {odd[0]!r:.80}: give a text, as for audit")
        check_alpha(self.alpha)
        titles = [demand.title for demand in self.claims]
        if twice := next((title for i, title in enumerate(titles) if title in titles[:i]), None):
            raise InputError(f"two claims are called {twice!r}: give each a name of its own")
        for demand in self.claims:
            if odd := [name for name in demand.models if name not in self.models]:
                raise InputError(f"claim {demand.title!r} is about {odd[0]!r}: models are {', '.join(self.models)}")
        asked = {model for model, _ in self.pairs}
        if left := [name for name in self.models if name not in asked]:
            raise InputError(f"no claim is about {left[0]!r}: add one, or leave the model out, which would pass unseen")

    @property
    def pairs(self) -> tuple[tuple[str, Demand], ...]:
        """Each model with each claim about it."""
        return tuple(
            (name, demand) for name in self.models for demand in self.claims if name in (demand.models or self.models)
        )

    @property
    def level(self) -> float:
        """The share of alpha of one verdict."""
        return self.alpha / len(self.pairs)

    @classmethod
    def read(cls, file: str | Path, *, model: str | None = None) -> Policy:
        """The policy in a YAML file; ``model`` goes before the one that stands there.

        :raises InputError: keys that are not known, values that cannot be used; names the claim.
        """
        try:
            found = read_yaml(Path(file))
        except FileNotFoundError as error:
            raise InputError(f"policy is {str(file)!r}: there is no such file") from error
        _known(str(file), found, ("alpha", "model", "models", "defaults", "claims"))
        claims, usual = found.get("claims"), found.get("defaults") or {}
        if not isinstance(claims, list) or not all(isinstance(one, dict) for one in (*claims, usual)):
            raise InputError(f"{file}: claims is {claims!r:.80}: give a list of mappings, and one of defaults")
        usual, models = named(f"{file}, defaults", usual), found.get("models") or {}
        if not isinstance(models, dict) or ("model" in found and models):
            raise InputError(f"{file}: give model, one name, or models, a mapping of names")
        if model is not None or "model" in found:
            models = {_short(model or found["model"]): model or found["model"]}
        alpha = found.get("alpha", 0.01)
        read = []
        for i, one in enumerate(claims, 1):
            where = f"{file}, claim {i}"
            read.append(read_demand(where, one, alpha, usual))
        return cls(models=models, claims=tuple(read), alpha=alpha)


def _short(name: str) -> str:
    """What a model is called that has no name: the end of its path."""
    return Path(name).name or name if isinstance(name, str) else str(name)


def read_demand(where: str, given: Mapping[str, Any], alpha: float, usual: Mapping[str, Any] | None = None) -> Demand:
    """One claim from its settings, which stand side by side, whatever holds them; an error names ``where``.

    ``usual``: settings of all claims. One of these that the claim has no use for does not count; its own is refused.
    """
    given = _used(where, named(where, given), usual or {})
    mine = {f.name for f in fields(Demand)} - set(PARTS)
    owners = {name: {f.name for f in fields(kind)} for name, kind in NESTED.items()}
    own = {f.name for f in fields(How)} - set(PARTS) - {"alpha"}
    _known(where, given, sorted(mine | own | set.union(*owners.values())))
    try:
        held = {
            name: kind(**{key: _listed(value) for key, value in given.items() if key in owners[name]})
            for name, kind in NESTED.items()
        }
        how = replace(How(alpha=alpha), **held, **{key: value for key, value in given.items() if key in own})
        return Demand(how=how, **{key: value for key, value in given.items() if key in mine})
    except (InputError, TypeError) as error:
        raise InputError(f"{where}: {error}") from error


def _used(where: str, own: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """A claim's settings with the usual ones; InputError for one of its own that would say nothing."""
    run = own.get("not_worse_than") or usual.get("not_worse_than")
    if not run:
        if "by" in own:
            raise InputError(
                f"{where}: by is {own['by']!r} and not_worse_than is not given: leave by out, or name a run"
            )
        return {**{name: value for name, value in usual.items() if name != "by"}, **own}
    for name, value in own.items():
        if name in OF_RUN or (name == "scorer" and is_built_in(str(value))):
            raise InputError(
                f"{where}: {name} is {value!r} beside not_worse_than {run!r}, whose own settings are used: leave "
                f"{name} out"
            )
    return {**usual, **own}


def named(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with _ in their names, however they are spelled; InputError for one that stands twice."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        plain = str(name).replace("-", "_")
        if plain in found:
            raise InputError(f"{where}: {plain!r} stands twice, with - and with _: leave one")
        found[plain] = value
    return found


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _known(where: str, given: Mapping[str, Any], known: Any) -> None:
    """InputError for a key that is not known."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            raise InputError(f"{where}: {name!r} is not known{f': did you mean {close[0]}?' if close else ''}")
