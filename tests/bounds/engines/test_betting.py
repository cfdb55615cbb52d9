"""Validity of the bets by exhaustive enumeration of paths, and that no bet looks ahead."""

import itertools
import math

import numpy as np
import pytest

import leakbound.bounds.engines.betting as betting
from leakbound.bounds.engines.betting import CUSHION, make_cells, play, stages, star_upper
from leakbound.bounds.engines.games import mean_game, pair_squares, upper_spread_game, variance_game

POINTS = [
    ((0.0, 0.4, 1.0), (0.7, 0.2, 0.1)),
    ((0.0, 0.5, 1.0), (0.98, 0.01, 0.01)),
    ((0.1, 0.2, 1.0), (0.5, 0.45, 0.05)),
    ((0.0, 0.05, 0.9), (0.3, 0.3, 0.4)),
    ((0.0, 0.999, 1.0), (0.5, 0.25, 0.25)),
    ((0.3, 0.3, 0.3), (0.2, 0.3, 0.5)),
]


def every_path(points, weights, n):
    """All 3^n paths as columns, and their probabilities."""
    index = np.array(list(itertools.product(range(3), repeat=n))).T
    return np.array(points)[index], np.prod(np.array(weights)[index], axis=0)


def law(points, weights):
    mean = sum(p * w for p, w in zip(points, weights, strict=True))
    return mean, math.sqrt(max(sum((p - mean) ** 2 * w for p, w in zip(points, weights, strict=True)), 0))


GAMES = {
    "mean": (lambda x, alpha: mean_game(x), lambda mean, sd: mean),
    "variance": (lambda x, alpha: variance_game(x), lambda mean, sd: sd**2),
    "mean + 2 sd": (lambda x, alpha: upper_spread_game(x, 2.0, alpha), lambda mean, sd: mean + 2 * sd),
}


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("n", [1, 2, 4, 7])
@pytest.mark.parametrize("alpha", [0.02, 0.3])
@pytest.mark.parametrize(("points", "weights"), POINTS)
def test_every_path(name, n, alpha, points, weights):
    make, value = GAMES[name]
    paths, probability = every_path(points, weights, n)
    theta = value(*law(points, weights))
    game = make(paths, alpha)
    # 1. the probability of a bound below the truth, summed over all paths
    missed = star_upper(game, alpha) < theta - 1e-12
    assert probability[missed].sum() <= alpha + 1e-12
    # 2. the wealth at the truth, with the bets of its cell: nonnegative, its mean at most 1 at every step
    cell = game.cells[np.searchsorted(game.cells, theta, side="right") - 1]
    bets = np.empty(game.y.shape)
    play(game, np.full(paths.shape[1], cell), np.arange(paths.shape[1]), alpha, bets)
    factors = 1 + bets * (theta - game.y)
    assert factors.min() >= 0
    assert (bets >= 0).all()
    assert (np.cumprod(factors, axis=0) @ probability <= 1 + 1e-12).all()


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("alpha", [0.02, 0.3])
@pytest.mark.parametrize(("points", "weights"), POINTS)
def test_every_path_with_bets_kept_for_several_draws(name, alpha, points, weights, monkeypatch):
    """Stages of 1, 1, 1, 2, ... draws at n = 7: the same two facts, to be enumerated where bets are kept."""
    monkeypatch.setattr(betting, "GRAIN", 1)
    assert [end - start for start, end in stages(7)] == [1, 1, 2, 3]
    test_every_path(name, 7, alpha, points, weights)


def test_stages_cover_every_draw_once_and_shrink_at_both_ends():
    for n in (1, 2, 63, 64, 127, 128, 1000, 99_999):
        parts = list(stages(n))
        assert [i for start, end in parts for i in (start, end)][1:-1] == [
            i for end in [end for _, end in parts][:-1] for i in (end, end)
        ]
        assert parts[0][0] == 0
        assert parts[-1][1] == n
        assert all(end - start <= max(1, min(start, n - start) / 64) for start, end in parts)
    assert len(list(stages(100_000))) < 1500


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize(("length", "grain"), [(40, 64), (40, 2), (400, 8)])
def test_no_bet_looks_ahead(name, length, grain, monkeypatch):
    monkeypatch.setattr(betting, "GRAIN", grain)
    rng = np.random.default_rng(0)
    make, _ = GAMES[name]
    x = rng.beta(0.5, 2, (length, 1))
    for t in (0, 3, length // 2, length // 2 + 1, length - 1):
        other = x.copy()
        other[t:] = rng.beta(2, 0.5, (length - t, 1))
        bets = []
        for path in (x, other):
            game = make(path, 0.01)
            skipped = length - game.y.shape[0]
            place = np.array([make_cells(game.y.shape[0])[30] * game.end])
            placed = np.empty((game.y.shape[0], 1))
            play(game, place, np.array([0]), 0.01, placed)
            bets.append((placed, np.broadcast_to(game.top, placed.shape)))
        seen = max(t + 1 - skipped, 0)  # the bet on draw t itself may not depend on it either
        assert (bets[0][0][:seen] == bets[1][0][:seen]).all()
        assert (bets[0][1][:seen] == bets[1][1][:seen]).all()


def one_candidate(x, m, alpha, grain=64):
    """The bets step by step for one m, each kept for its stage; the log-wealth after each step."""
    n, log_wealth, path, past, bet, kept = len(x), 0.0, [], [], 0.0, 0
    wanted = math.log(1 / alpha) + CUSHION
    for t, score in enumerate(x):
        if kept == 0:
            kept = max(1, min(t, n - t) // grain)
            ceiling = m * (1 - m) + 1e-4
            spread = min(sum((m - y) ** 2 for y in past) / t + (1 - m) * n / t**2, ceiling) if t else ceiling
            left = max(wanted - max([log_wealth, *(w for w in path if w >= wanted)]), 0)
            square = 2 * left if n < 100 else left * (0.76 + 0.48 * left) / (1 + 0.24 * left)
            bet = min(math.sqrt(square / ((n - t) * spread)), 1 / (1 - m + 1e-4))
        log_wealth += math.log(1 + bet * (m - score))
        kept -= 1
        past.append(score)
        path.append(log_wealth)
    return path


@pytest.mark.parametrize("m", [0.02, 0.1, 0.3, 0.8])
@pytest.mark.parametrize(("n", "grain"), [(60, 64), (140, 64), (140, 4), (900, 16)])
@pytest.mark.parametrize("most", [2**20, 3])
def test_play_equals_a_slow_restatement(m, n, grain, most, monkeypatch):
    monkeypatch.setattr(betting, "GRAIN", grain)
    monkeypatch.setattr(betting, "MOST_CELLS", most)
    x = np.random.default_rng(1).beta(0.5, 5, n)
    fast = play(mean_game(x[:, None]), np.array([m]), np.array([0]), 0.01)
    slow = one_candidate(x, m, 0.01, grain)
    wanted = math.log(100) + CUSHION
    if max(slow) < wanted:
        assert fast[0] == pytest.approx(slow[-1], abs=1e-9)
    else:
        assert fast[0] >= wanted


def test_the_bound_is_above_every_candidate_that_is_not_rejected():
    rng = np.random.default_rng(2)
    for x in (np.zeros(40), rng.beta(0.5, 5, 40), np.repeat([0.0, 1.0], 20), np.ones(5)):
        game = mean_game(x[:, None])
        bound = star_upper(game, 0.05)[0]
        assert bound >= game.cells[game.cells <= x.mean()][-1]
        for left, right in zip(game.cells, np.append(game.cells[1:], 1.0), strict=True):
            if right > bound:
                assert left >= bound or max(one_candidate(x, left, 0.05)) < math.log(20) + 1e-6 or right > bound
            if left >= bound:
                assert max(one_candidate(x, left, 0.05)) >= math.log(20) - 1e-6


def test_finer_cells_change_little():
    from dataclasses import replace

    x = np.random.default_rng(3).beta(0.5, 5, (200, 50))
    game = mean_game(x)
    fine = star_upper(replace(game, cells=make_cells(200, 1.0, 0.02)), 0.01)
    coarse = star_upper(game, 0.01)
    widths = (coarse - x.mean(axis=0)) / (fine - x.mean(axis=0))
    assert np.median(widths) < 1.02
    assert widths.max() < 1.25


def test_batches_do_not_mix():
    x = np.random.default_rng(4).beta(0.5, 5, (50, 20))
    together = star_upper(mean_game(x), 0.01)
    assert together == pytest.approx([star_upper(mean_game(x[:, [i]]), 0.01)[0] for i in range(20)], abs=1e-12)


@pytest.mark.slow
def test_bets_kept_for_a_stage_lose_little(monkeypatch):
    x = np.random.default_rng(5).beta(2, 8, (2000, 30))

    def medians():
        games = mean_game(x), variance_game(x), upper_spread_game(x, 2.0, 0.01)
        return np.array([np.median(star_upper(game, 0.01)) for game in games])

    kept = medians()
    monkeypatch.setattr(betting, "GRAIN", 10**9)
    one_by_one = medians()
    truth = np.array([0.2, 0.2 * 0.8 / 11, 0.2 + 2 * math.sqrt(0.2 * 0.8 / 11)])
    assert (kept > truth).all()
    assert (kept - truth < 1.02 * (one_by_one - truth)).all()


def test_pair_squares():
    assert pair_squares(np.array([[0.0], [1.0], [0.5], [0.3], [0.9]])).ravel() == pytest.approx([1.0, 0.04])
