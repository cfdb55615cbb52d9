"""Where a statement that once it holds stays true begins to hold: by bisection, and the end that holds is returned."""

from collections.abc import Callable


def fewest(holds: Callable[[int], bool], below: int = 0, first: int | None = None, parts: int | None = None) -> int:
    """The smallest n > ``below`` for which it holds, or one that is larger by at most n / ``parts``.

    Tried are ``first`` (the next one after ``below``), twice that, and so on until it holds, then what lies between.
    """
    low, high = below, below + 1 if first is None else first
    while not holds(high):
        low, high = high, 2 * high
    while high - low > max(1, high // parts if parts else 0):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def least(holds: Callable[[float], bool], low: float, high: float, near: float = 0.0) -> float:
    """The least number in (low, high) for which it holds, to the last float or ``near`` of it; ``high`` if none."""
    for _ in range(60):
        middle = (low + high) / 2
        if not low < middle < high or high - low < near * high:
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
