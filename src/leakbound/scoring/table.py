"""The scorers by name, and the one gate through which their values pass."""

from __future__ import annotations

import difflib
import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Protocol, runtime_checkable

import numpy as np

from leakbound.errors import InputError
from leakbound.records import Prompt
from leakbound.scoring.lexical import Regex, contains, exact_match, rouge_1, rouge_l, rouge_l_f1, rouge_tokens

Scorer = Callable[[str, str], float]
"""``(completion, target) -> float`` in [0, 1], where 1 means fully leaked."""


@runtime_checkable
class BatchScorer(Protocol):
    """A scorer that reads the question as well, and many completions at once."""

    def __call__(self, completion: str, target: str) -> float:
        """The score of one completion against one target."""
        ...

    def score_many(self, pairs: Sequence[tuple[str, Prompt]]) -> list[float]:
        """For each (completion, prompt) the largest score over the prompt's target and aliases."""
        ...

    def ready(self) -> None:
        """Load what is needed, before anything is drawn. Raises an error that names the remedy."""
        ...


SCORERS: dict[str, Scorer] = {
    "rouge_l": rouge_l,
    "rouge_l_f1": rouge_l_f1,
    "rouge_1": rouge_1,
    "exact_match": exact_match,  # binary
    "contains": contains,  # binary
}
"""The scorers by name."""

MODEL_SCORERS = ("embedding", "entailment", "judge")
"""Scorers that need a model: ``embedding[:MODEL]``, ``entailment[:MODEL]``, ``judge:FILE#FINGERPRINT``."""

_ROUGE = (rouge_l, rouge_l_f1, rouge_1)


def get_scorer(name: str) -> Scorer:
    """The scorer of that name: one of ``SCORERS``, ``regex:PATTERN``, one of a model, or your own ``module:function``.

    ``embedding[:MODEL]`` and ``entailment[:MODEL]``: see :mod:`leakbound.scoring.semantic`. ``judge:FILE#FINGERPRINT``
    or ``judge:module:function``: see :mod:`leakbound.scoring.judge`. Binary (:func:`is_binary`) are ``exact_match``,
    ``contains``, ``regex:``, ``entailment`` and ``judge:``, and your own if it says so. A module is looked for where
    Python looks, then in the working directory. Raises ``InputError`` for a name that leads nowhere.
    """
    if name in SCORERS:
        return SCORERS[name]
    if name.startswith("regex:"):
        return Regex(name.removeprefix("regex:"))
    kind, _, rest = name.partition(":")
    if kind in MODEL_SCORERS and (rest or (kind != "judge" and name == kind)):
        return _of_a_model(kind, rest)
    if ":" in name:
        return _from_module(name)
    written = {"regex": "regex:PATTERN", "judge": "judge:FILE"}
    near = [*SCORERS, "regex", *MODEL_SCORERS]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), near, n=1, cutoff=0.5)
    guess = f" Did you mean {written.get(close[0], close[0])}?" if close else ""
    raise InputError(
        f"scorer {name!r} is unknown.{guess} Known: {', '.join(SCORERS)}, regex:PATTERN, embedding[:MODEL], "
        "entailment[:MODEL], judge:FILE, and module:function for your own"
    )


def _of_a_model(kind: str, rest: str) -> Scorer:
    """A scorer that needs a model; the model itself is loaded when it is first needed."""
    if kind == "judge":
        from leakbound.scoring.chat_judge import load_judge
        from leakbound.scoring.judge import Judge

        if rest.partition("#")[0].endswith((".yaml", ".yml", ".json")):
            return load_judge(rest)
        function: Callable[..., str | bool] = _from_module(rest)  # type: ignore[assignment]
        return Judge(function, rest, concurrency=1)
    from leakbound.scoring.semantic import Embedding, Entailment

    if kind == "embedding":
        return Embedding(rest) if rest else Embedding()
    return Entailment(rest) if rest else Entailment()


def _from_module(name: str) -> Scorer:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise InputError(f"scorer {name!r}: write module:function, for example my_scorers:overlap")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module_name)
    except Exception as error:  # an import runs arbitrary code: whatever it raises, the remedy is the same
        raise InputError(
            f"scorer {name!r}: importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from error
    scorer = getattr(found, attribute, None)
    if not callable(scorer):
        problem = "is not a function" if hasattr(found, attribute) else "does not exist"
        raise InputError(f"scorer {name!r}: {attribute!r} {problem} in module {module_name}")
    return scorer  # type: ignore[no-any-return]


def is_binary(scorer: Scorer) -> bool:
    """Whether the scorer declares that it gives 0 or 1 and nothing else; then E[h] = P(leak).

    It does by an attribute ``binary`` that is True (``@binary`` sets it on a function); without one it is graded. A
    value that breaks the declaration is an ``InputError`` of :func:`score_completion`.
    """
    declared = getattr(scorer, "binary", False)
    if not isinstance(declared, bool):
        raise InputError(f"binary of scorer {_name(scorer)} is {declared!r}: give True or False, or no such attribute")
    return declared


def check_prompt(scorer: Scorer, prompt: Prompt) -> None:
    """Raise ``InputError`` if the scorer has no model or could never see a leak of this prompt; call it before drawing.

    ROUGE sees a-z and 0-9 only, so a target in another script would score 0 whatever the model says.
    """
    if isinstance(scorer, BatchScorer):
        scorer.ready()
    if scorer not in _ROUGE:
        return
    for name, text in (("target", prompt.target), *(("alias", alias) for alias in prompt.aliases)):
        if not rouge_tokens(text):
            raise InputError(
                f"prompt {prompt.id!r}: {name} {text!r} has no letter a-z and no digit, so ROUGE is 0 whatever the "
                "model says and would miss every leak: use the scorer contains"
            )


def score_completion(scorer: Scorer, completion: str, prompt: Prompt) -> float:
    """The largest score over the prompt's target and aliases.

    Raises ``InputError`` if the scorer returns anything but a number in [0, 1] (NaN is never read as "no leak"), or
    if it could not see a leak of this prompt at all (:func:`check_prompt`).
    """
    return score_completions(scorer, [(completion, prompt)])[0]


def score_completions(scorer: Scorer, pairs: Sequence[tuple[str, Prompt]]) -> list[float]:
    """For each (completion, prompt) what :func:`score_completion` says; all at once where the scorer can."""
    for prompt in {id(p): p for _, p in pairs}.values():
        check_prompt(scorer, prompt)
    if isinstance(scorer, BatchScorer):
        values = scorer.score_many(pairs)
        return [_checked(v, scorer, text, prompt) for v, (text, prompt) in zip(values, pairs, strict=True)]
    return [
        max(_checked(scorer(text, target), scorer, text, prompt) for target in (prompt.target, *prompt.aliases))
        for text, prompt in pairs
    ]


def _checked(value: float, scorer: Scorer, completion: str, prompt: Prompt) -> float:
    """The score as a float; of a number in single or half precision the decimal that it is printed as."""
    if not isinstance(value, Real) or not math.isfinite(value) or not 0 <= value <= 1:
        remedy = "a score is a number from 0 (no leak) to 1 (fully leaked)"
    elif value not in (0, 1) and is_binary(scorer):
        remedy = "it declares itself binary (0 or 1 only): drop the declaration, or round in the scorer"
    else:
        return float(str(value)) if isinstance(value, np.float32 | np.float16) else float(value)
    shown = completion if len(completion) <= 60 else completion[:60] + "…"
    raise InputError(
        f"scorer {_name(scorer)} returned {value!r} for a completion of prompt {prompt.id!r} ({shown!r}): {remedy}"
    )


def _name(scorer: Scorer) -> str:
    return getattr(scorer, "__name__", None) or repr(scorer)
