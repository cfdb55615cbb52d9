"""The bounds a second way, for ``verify``: docs/methods.md written out, slow, without the code of leakbound.bounds.

The one thing shared is whether draws look arranged, which picks one of two bounds; the constants that fix bets and
levels before the draws stand here again. Each function asks whether one number may be claimed, and looks for no better.
"""
