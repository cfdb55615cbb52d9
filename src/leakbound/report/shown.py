"""A bound in a table cell, rounded outward."""

from leakbound.bounds.result import Bound, limits_of
from leakbound.wording import at_least, at_most

NOTHING = "no limit"
"""What a table shows for a bound that says nothing."""


def says_nothing(bound: Bound) -> bool:
    """Whether a bound, as it would be printed, claims only what holds whatever was drawn."""
    low, high = limits_of(bound.estimand)
    no_upper = bound.side == "lower" or at_most(bound.upper) == at_most(high)
    no_lower = bound.side == "upper" or bound.lower <= low
    return no_upper and no_lower


def limits(bound: Bound) -> str:
    """What a bound claims, for a table cell: ``≤ 0.0045``, ``≥ 0.1``, ``0.1 to 0.2``, rounded outward; or NOTHING."""
    if says_nothing(bound):
        return NOTHING
    if bound.side == "upper":
        return f"≤ {at_most(bound.upper)}"
    if bound.side == "lower":
        return f"≥ {at_least(bound.lower)}"
    return f"{at_least(bound.lower)} to {at_most(bound.upper)}"
