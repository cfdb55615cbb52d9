"""Results of an older version that claim more than they prove: refused, since what they were made from is there."""

from collections.abc import Iterable, Mapping
from typing import Any

from leakbound.bounds import Bound
from leakbound.bounds.mean import STAR
from leakbound.runs.store import NO_ORDER


def refuse_outdated(run: Mapping[str, Any], bounds: Iterable[Bound]) -> None:
    """ValueError where a bound bets on the order of draws whose order the run does not hold.

    Version 0.1 sorted counted draws by score and shuffled them with a constant seed. That is a fixed function of the
    counts and no order of generation: such bounds can be false far more often than alpha says (docs/methods.md).
    """
    if run.get("format") in NO_ORDER and any(b.method.startswith(STAR) for b in bounds):
        raise ValueError("an older version bet there on an order of the draws that is not known, which proves nothing")
