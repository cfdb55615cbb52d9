"""A method: its term needs torch, so that it has a module of its own."""

from leakbound.unlearning.objectives import TERMS, Objective, Term


def hinge(logps_B, lengths_B, *, gamma):
    """Ascent until an answer token is as improbable as exp(-gamma): max(0, gamma + log p(y|x) / |y|)."""
    return (gamma + logps_B / lengths_B).clamp(min=0)


HINGE = Objective(forget=Term(hinge, ("logps", "lengths"), {"gamma": 4.0}), retain=TERMS["retain"]["gd"])
