"""Guaranteed bounds from scores in [0, 1]: pure statistics on numpy and scipy.special."""

from leakbound.bounds.result import Bound, SurvivalBand

__all__ = ["Bound", "SurvivalBand"]
