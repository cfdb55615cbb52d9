"""Bounds on a mean by betting against it: STaR bets on cells fixed in advance, many prompts at once.

Let Y_1, Y_2, ... have conditional means >= theta given the past, Y_t <= top_t with top_t known before draw t. For a
candidate s the wealth W_t(s) = prod_{i<=t} (1 + lam_i (s - Y_i)), 0 <= lam_i <= 1 / (top_i - s) chosen before draw i,
is a nonnegative supermartingale if theta >= s, so P(some W_t(s) >= 1/alpha) <= alpha (Ville).

The candidates are cut into cells [g_k, g_(k+1)) before the draws. All s of a cell use the bets of its left end g_k;
these are valid for them, and W_t(s) rises in s within the cell. So if g_k is rejected, its whole cell is; and in the
highest cell whose left end is not rejected, the rejected s are an upper piece, whose lower end bisection finds. That
end is the bound: theta lies in some cell, and if the bound is below theta then theta itself was rejected. Cells below
the sample mean are counted as not rejected, which can only raise the bound. Proof in docs/methods.md.

STaR bets: Voracek and Orabona 2025 (arXiv 2505.22422). Cells with shared bets and the milder bet: ours.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from leakbound.bounds.gate import Floats, Ints

CUSHION = 1e-9
"""Added to ln(1/alpha): far above the rounding error of a log-wealth."""
GRAIN = 64
"""A bet is kept for this part of the draws seen, and of those still planned."""
MOST_CELLS = 2**20
"""Candidates times draws that are computed at once."""


@dataclass(frozen=True)
class Game:
    """What is bet on: ``y`` of shape (steps, games); ``top`` likewise, or (1, games) where it does not change.

    ``spread`` gives (floor added to V, ceiling of S). The number of steps is planned: cells and bets depend on it.
    """

    y: Floats
    top: Floats
    cells: Floats
    end: float
    spread: Callable[[Floats, Floats, int, int], tuple[Floats, Floats]]


@lru_cache(maxsize=64)
def make_cells(n: int, end: float = 1.0, step: float = 0.2) -> Floats:
    """Left ends of the cells of [0, end]: steps of ``step`` sqrt(g (end - g) / n) + 0.1 end / n, known from n alone."""
    ends, g = [], 0.0
    while g < end:
        ends.append(g)
        g += step * math.sqrt(g * (end - g) / n) + 0.1 * end / n
    cells = np.array(ends)
    cells.flags.writeable = False
    return cells


def square_bet(missing: Floats, n: int) -> Floats:
    """The square of the bet, times (n - t) S, when ln(1/alpha) - ln W = ``missing`` >= 0 is still to be won.

    2 missing is the published bet. From 100 planned steps on it is missing (0.76 + 0.48 missing) / (1 + 0.24 missing),
    a fit to the hedge of a digital option, milder throughout: 5 to 15 % narrower where leaks are rare, 1 to 4 % wider
    for smooth scores. Any rule that knows only the past is valid.
    """
    if n < 100:
        return 2.0 * missing
    return missing * (0.76 + 0.48 * missing) / (1.0 + 0.24 * missing)


def stages(n: int) -> Iterator[tuple[int, int]]:
    """First and one past the last of the draws that share a bet, of ``n`` draws.

    A bet is kept for at most 1/GRAIN of the draws seen and of those still planned: one by one at either end, in runs
    between, so that 1e5 draws take about a thousand steps. A bet that was fixed before the first draw of its run is
    known before every draw of it.
    """
    t = 0
    while t < n:
        size = max(1, min(t, n - t) // GRAIN)
        yield t, min(t + size, n)
        t += size


def play(game: Game, s: Floats, owner: Ints, alpha: float, bets: Floats | None = None) -> Floats:
    """The log-wealth of each candidate ``s`` in the game ``owner``: the largest where it reaches ln(1/alpha), else the
    last; betting stops there.

    S = min(V + floor, ceiling), V the mean of the past (s - Y)^2; lam = sqrt(square_bet / ((n - t) S)), kept for a
    stage, at most 1 / (top - s + 1e-4) at each draw. ``bets``, of shape (steps, candidates), is filled where given.
    """
    n, games = game.y.shape
    before = np.zeros((2, games))
    wanted = -math.log(alpha) + CUSHION
    final = np.zeros(s.size)
    alive = np.arange(s.size)
    log_wealth = np.zeros(s.size)
    steady = game.top.shape[0] == 1
    for number, (t, end) in enumerate(stages(n)):
        if bets is None and (number < 16 or number % 8 == 0):
            keep = log_wealth < wanted
            if not keep.all():
                final[alive[~keep]] = log_wealth[~keep]
                alive, s, owner, log_wealth = alive[keep], s[keep], owner[keep], log_wealth[keep]
            if not alive.size:
                break
        top = game.top[0 if steady else t].take(owner)
        floor, ceiling = game.spread(s, top, t, n)
        # S_t from the t draws of the past alone: whatever the rule, the bet is known before the draws that it is for
        if t:
            first, second = before / t
            variance = second.take(owner)
            variance -= s * (2.0 * first).take(owner)
            variance += s * s
            variance += floor
            np.minimum(variance, ceiling, out=variance)
            np.maximum(variance, 1e-300, out=variance)
        else:
            variance = ceiling
        bet = square_bet(np.maximum(wanted - log_wealth, 0.0), n)
        variance *= n - t
        bet /= variance
        np.sqrt(bet, out=bet)
        # lam (top - s) < 1: every factor 1 + lam (s - y) stays positive, as a wealth must
        np.minimum(bet, 1.0 / (np.maximum(top - s, 0.0) + 1e-4), out=bet)
        width = end - t if end - t == 1 else max(1, MOST_CELLS // s.size)
        for low in range(t, end, width):
            high = min(low + width, end)
            placed: Floats = bet[None]
            if not steady and high > t + 1:  # the largest bet may change within the stage
                placed = np.minimum(bet, 1.0 / (np.maximum(game.top[low:high].take(owner, axis=1) - s, 0.0) + 1e-4))
            if bets is not None:
                bets[low:high] = placed
            gain = s - game.y[low:high].take(owner, axis=1)
            gain *= placed
            np.log1p(gain, out=gain)
            if high - low == 1:
                log_wealth += gain[0]
                continue
            # Ville's event is "at some draw", so the largest wealth on the way counts, not the last one
            path = np.cumsum(gain, axis=0, out=gain)
            best = path.max(axis=0)
            best += log_wealth
            log_wealth += path[-1]
            np.copyto(log_wealth, best, where=best >= wanted)
        # only now are these draws past
        y = game.y[t:end]
        before[0] += y.sum(axis=0)
        before[1] += np.einsum("ij,ij->j", y, y)
    final[alive] = log_wealth
    return final


def star_upper(game: Game, alpha: float) -> Floats:
    """The upper bound on theta for each game, at level ``alpha`` each."""
    games = game.y.shape[1]
    cells = game.cells
    # cells below that of the sample mean are not tested: counted as not rejected, which can only raise the bound
    start = np.clip(np.searchsorted(cells, game.y.mean(axis=0), side="right") - 1, 0, cells.size - 1)
    tested = cells.size - start
    owner = np.repeat(np.arange(games), tested)
    offset = np.concatenate([[0], np.cumsum(tested)[:-1]])
    index = np.arange(owner.size) - offset[owner] + start[owner]
    kept = play(game, cells[index], owner, alpha) < -math.log(alpha) + CUSHION
    # the highest left end that is not rejected: above its cell everything is, so the bound is its right end or less
    highest = start - 1
    np.maximum.at(highest, owner[kept], index[kept])
    right = np.append(cells[1:], game.end)
    bound = np.where(highest >= 0, right[np.maximum(highest, 0)], cells[0])
    inside = np.flatnonzero(highest >= start)
    if inside.size:
        bound[inside] = refine(game, inside, cells[highest[inside]], bound[inside], alpha)
    return np.asarray(bound, dtype=np.float64)


def refine(game: Game, games: Ints, low: Floats, high: Floats, alpha: float) -> Floats:
    """Within cells [low, high): the lower end of the rejected piece, bisected from above; ``high`` if there is none."""
    wanted = -math.log(alpha) + CUSHION
    # the bets of the left end serve every s of the cell, and with them the wealth rises in s: bisection is right
    bets = np.empty((game.y.shape[0], games.size))
    play(game, low, games, alpha, bets)
    y = game.y[:, games]
    for _ in range(10):
        middle = (low + high) / 2
        path = middle - y
        path *= bets
        np.log1p(path, out=path)
        rejected = np.cumsum(path, axis=0, out=path).max(axis=0) >= wanted
        high, low = np.where(rejected, middle, high), np.where(rejected, low, middle)
    return high
