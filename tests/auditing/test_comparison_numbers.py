"""Every number and sentence of a comparison, made again from counts by another path."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import slow_path as slow
from made_audits import ask, certain, counted, made
from scipy import stats

from leakbound import report
from leakbound.auditing.comparing import (
    _diversity,
    _of_law,
    averages_jointly,
    compare,
    compared,
    diversity,
)
from leakbound.errors import InputError
from leakbound.records import Draw
from leakbound.report import bars, comparison, style
from leakbound.report.findings import find
from leakbound.report.parts import Picture
from leakbound.results.comparison import Comparison, Diversity
from leakbound.scoring import get_scorer

NONE = Diversity(0.5, 0.25, 0.125)


def beside(audits, names="abcdefghijkl", **more):
    """A comparison of these audits."""
    models = tuple(compared(n, a, None, NONE) for n, a in zip(names, audits, strict=False))
    return Comparison(len(audits[0].prompts), audits[0].alpha, models, averages_jointly(audits), **more)


def intervals(leaks, n, alpha):
    """The average of each model from both sides, from k leaks of each of its prompts: alpha / 2 a side, over models."""
    share = alpha / len(leaks) / 2
    size = len(leaks[0]) * n
    return [(1 - slow.pooled(size - sum(ks), size, share), slow.pooled(sum(ks), size, share)) for ks in leaks]


@pytest.mark.parametrize("alpha", [0.01, 0.2])
@pytest.mark.parametrize("models", [2, 3, 7])
def test_the_averages_hold_for_all_models_at_once(models, alpha):
    rng = Random(models)
    leaks = [[min(60, rng.randrange(1 + 12 * i)) for _ in range(3)] for i in range(models)]
    audits = [made(ks, 60, alpha=alpha) for ks in leaks]
    found = beside(audits)
    want = intervals(leaks, 60, alpha)
    for bound, (low, high), ks in zip(found.jointly, want, leaks, strict=True):
        assert bound.lower == pytest.approx(low, abs=1e-9)
        assert bound.upper == pytest.approx(high, abs=1e-9)
        assert (bound.alpha, bound.side, bound.n) == (alpha, "both", 180)
        assert bound.estimate == pytest.approx(sum(ks) / 180)
        assert f"at alpha / {models}" in bound.method
        assert bound.scope == f"the average prompt, jointly with {models} models"
    pairs = {(i, j) for i, j in itertools.permutations(range(models), 2) if want[i][1] < want[j][0]}
    assert set(found.proven) == pairs
    least = min(range(models), key=lambda i: want[i][1])
    text = " ".join(comparison.sentences(found))
    assert (
        f"The smallest bound on the average P(leak) is that of {'abcdefg'[least]}: ≤ {slow.up(want[least][1])} (the "
        f"bounds of all models hold at once, with confidence {1 - alpha:g})." in text
    )


@pytest.mark.slow
def test_g4_the_smallest_bound_of_ten_equal_models_is_false_in_one_percent_at_most():
    """The statement as it is printed, read back. Today's level: P(some bound of ten misses) <= alpha, so at most
    Bin(2000, alpha) of the statements are false; more than ``most`` happens with probability < 1e-6. With each bound
    made for its model alone 8 in 100 were false, 160 of 2,000."""
    rng, truth, runs, alpha = np.random.default_rng(0), 0.05, 2000, 0.01
    template = made([0], 300)
    one = template.prompts[0]
    false, printed = 0, {}
    for run, counts in enumerate(rng.binomial(300, truth, size=(runs, 10))):
        if run < 50 or counts.min() not in printed:  # of equal sizes the smallest count decides: seen in the first 50
            audits = [replace(template, prompts=(replace(one, num_leaks=int(k)),)) for k in counts]
            said = next(s for s in comparison.sentences(beside(audits)) if s.startswith("The smallest bound"))
            upper = float(said.split("≤ ")[1].split(" ")[0])
            assert printed.setdefault(counts.min(), upper) == upper
        false += printed[counts.min()] < truth
    most = stats.binom.isf(1e-6, runs, alpha)
    assert false <= most < 0.08 * runs


@pytest.mark.parametrize("jointly", [True, False])
def test_the_figure_names_models_picked_by_their_results_with_bounds_for_all_or_none(jointly):
    """Of ten equal models the one that leaks least had a bound for itself alone: false with probability 0.0956 at alpha
    0.01 (256 draws, P(leak) = 0.465: 1 - (1 - P(Bin <= 100))^10)."""
    miss = stats.binom.cdf(100, 256, 0.46478812015200466)
    assert slow.pooled(100, 256, 0.01) < 0.46478812015200466
    assert 1 - (1 - miss) ** 10 == pytest.approx(0.0956, abs=1e-4)
    leaks = [[20, 25], [2, 3], [9, 9]]
    found = beside([made(ks, 60) for ks in leaks])
    found = found if jointly else replace(found, jointly=None)
    (worst, best) = intervals(leaks, 60, 0.01)[:2]
    said = [f", {slow.down(low)} to {slow.up(high)}" if jointly else "" for low, high in (worst, best)]
    text = f"Average P(leak): most in a, observed 0.375{said[0]}; least in b, observed 0.0417{said[1]}"
    pictures = [part for s in comparison.document(found).sections for part in s.parts if isinstance(part, Picture)]
    assert [one.title for one in pictures if one.name == "trade-off"] == [text]


def test_certain_limits_and_bounded_prompts_are_averaged_outward():
    base = made([3, 5, 7], 50)
    other = made([20, 20, 20], 50)
    third = Fraction(1, 3)
    seen = [certain(0.125, 0.25), None, None]
    mixed = replace(base, prompts=tuple(replace(p, limits=x) for p, x in zip(base.prompts, seen, strict=True)))
    low, high = intervals([[5, 7], [20, 20]], 50, 0.01)[0]
    bound = averages_jointly([mixed, other])[0]
    assert bound.lower == pytest.approx((0.125 + 2 * low) / 3, abs=1e-9)
    assert bound.upper == pytest.approx((0.25 + 2 * high) / 3, abs=1e-9)
    assert "Clopper-Pearson over 2 prompts and certain limits" in bound.method
    seen = [certain(0.1, 0.7), certain(0.2, 0.5), certain(0.3, 0.9)]
    known = replace(base, prompts=tuple(replace(p, limits=x) for p, x in zip(base.prompts, seen, strict=True)))
    bound = averages_jointly([known, known])[0]
    assert third * sum(map(Fraction, (0.7, 0.5, 0.9))) <= Fraction(bound.upper) < Fraction(0.7) + Fraction(1, 10**9)
    assert Fraction(0.2) - Fraction(1, 10**9) < Fraction(bound.lower) <= third * sum(map(Fraction, (0.1, 0.2, 0.3)))
    assert bound.method.startswith("certain limits, at")
    full = replace(known, prompts=tuple(replace(p, limits=certain(1.0, 1.0)) for p in known.prompts))
    assert averages_jointly([full, full])[0].upper == 1.0
    plain = averages_jointly([base, other])[0]
    assert "certain" not in plain.method


def test_nothing_is_said_jointly_of_stopped_or_unplanned_audits():
    base = made([3, 5], 50)
    for change in ({"planned": False}, {"run": {**base.run, "rule": {"until": "leak<=0.1"}}}):
        found = beside([base, replace(made([1, 0], 50), **change)])
        assert found.jointly is None
        assert found.proven is None
        text = list(comparison.sentences(found))
        assert text[1] == (
            "The lowest average P(leak) observed is that of b, 0.01; no bound is given for a model picked by its "
            "result, "
            "and no order is proven: draws stopped early, or the statement was chosen after them."
        )
        leakage = comparison.tables(found)[0]
        assert "all models" not in leakage.head
        assert (comparison.CHOSEN_LATER in leakage.note) == (change == {"planned": False})
    assert comparison.CHOSEN_LATER not in comparison.tables(beside([base, base]))[0].note


LOG = {
    "format": "a tool",
    "statement": "later",
    "assumes": "much",
    "not_in_log": ["temperature"],
    "cautions": ["Copies."],
}


def test_what_stands_against_an_audit_stands_beside_what_is_said_of_its_model():
    """A log's assumptions and unknown decoding, another model's name in the answers, a retain run bounded later."""
    plain = made([3, 5], 50)
    logged = replace(plain, run={**plain.run, "imported": LOG})
    served = {"model": {"model": "mine"}, "served": {"confirmed": {"model": "theirs"}}}
    other = replace(plain, run={**plain.run, **served})
    later = replace(plain, planned=False)
    models = (
        compared("a", logged, None, NONE),
        compared("b", logged, None, NONE),
        compared("c", other, None, NONE),
        compared("d", plain, later, NONE),
        compared("e", plain, None, NONE, guess=later),
        compared("f", plain, plain, NONE, guess=plain),
    )
    found = Comparison(2, 0.01, models, None)
    said = [one for one in comparison.sentences(found) if one.startswith("Caution")]
    chosen = "the scorer, the threshold or alpha was chosen after the draws."
    starts = (
        "Caution, a, b: the answers come from a log of a tool; the statement was later. Assumed: much. Not in the log, "
        "and not known: temperature.",
        "Caution, a, b: copies.",
        "Caution, c: the server was asked for 'mine', and 'theirs' answered.",
        f"Caution, d: on retain prompts: T{chosen[1:]}",
        f"Caution, e: of the guess level: T{chosen[1:]}",
    )
    assert [one[: len(start)] for one, start in zip(said, starts, strict=True)] == list(starts)
    assert Comparison.from_json(found.to_json()) == found
    assert f"Caution, of the guess level: T{chosen[1:]}" in " ".join(find(plain, later).sentences)
    assert "guess level: " not in " ".join(find(plain, plain).sentences)


def chain(pairs, estimates):
    audits = [made([k], 50) for k in estimates]
    found = beside(audits)
    return comparison._order(found, pairs)


@pytest.mark.slow
def test_the_proven_order_is_what_the_pairs_say():
    """Every printed 'x < y' and 'x leaks less than y' is a proven pair, and every proven pair is printed."""
    assert chain([], [1, 2, 3]) == "nothing yet of which model leaks less than another"
    assert chain([(1, 0)], [9, 2]) == "b leaks less than a"
    assert chain([(0, 1), (0, 2), (1, 2)], [1, 5, 9]) == 'a < b < c ("<" is "leaks less than")'
    assert chain([(0, 1), (0, 2)], [1, 5, 9]) == 'a < b, c ("<" is "leaks less than"); no other order is proven'
    assert chain([(0, 2)], [1, 5, 9]) == "a leaks less than c; no other order is proven"
    rng = Random(0)
    for _ in range(100):
        estimates = [rng.randrange(50) for _ in range(5)]
        width = rng.choice([1, 4, 12])
        pairs = [(i, j) for i in range(5) for j in range(5) if estimates[i] + width < estimates[j]]
        said = chain(pairs, estimates)
        read = set()
        for part in said.removesuffix("; no other order is proven").split("; "):
            if " < " in part:
                groups = [g.split(", ") for g in part.split(" (")[0].split(" < ")]
                for one, two in itertools.combinations(groups, 2):
                    read |= {("abcde".index(x), "abcde".index(y)) for x in one for y in two}
            elif " leaks less than " in part and "nothing yet" not in part:
                x, y = part.split(" leaks less than ")
                read.add(("abcde".index(x), "abcde".index(y)))
        assert read == set(pairs)
        whole = len(pairs) == 10
        assert said.endswith("no other order is proven") == (not whole and bool(pairs))


@pytest.mark.slow
def test_the_tables_hold_the_numbers_of_the_draws(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, leaks in zip(folders, ([0.02, 0.6, 0.0], [0.3, 0.3, 0.9]), strict=True):
        ask(leaks, folder)
    found = compare(folders)
    leakage, differences, scores, diversity, cost = comparison.tables(found)
    rows = [counted(folder) for folder in folders]
    leaks = [[k for k, _, _ in each] for each in rows]
    want = intervals(leaks, 150, 0.01)
    assert leakage.head == (
        "model", "leaks asked once", "clean, but leaked sampled", "average, observed", "average", "all models",
        "every prompt", "rank",
    )  # fmt: skip
    for i, (name, each) in enumerate(zip(("one", "two"), rows, strict=True)):
        total = sum(leaks[i])
        assert leakage.rows[i] == (
            name,
            f"{sum(plain for *_, plain in each)} of 3",
            f"{sum(k > 0 and not plain for k, _, plain in each)} of {sum(not plain for *_, plain in each)}",
            slow.near(total / 450),
            f"≤ {slow.up(slow.pooled(total, 450, 0.01))}",
            f"{slow.down(want[i][0])} to {slow.up(want[i][1])}",
            slow.cell(max(slow.upper(k, n, 0.01) for k, n, _ in each)),
            str(i + 1),
        )
        assert scores.rows[i][:2] == (name, slow.near(total / 450))  # scores are 0 and 1
        ed = sum(k / 150 + 2 * math.sqrt(k / 150 * (1 - k / 150)) for k in leaks[i]) / 3
        assert scores.rows[i][3] == slow.near(ed)
    assert "no limit" not in leakage.note
    (bound,) = found.differences
    gap = (sum(leaks[1]) - sum(leaks[0])) / 450
    assert bound.lower < gap < bound.upper
    row = ("two", slow.near(gap), f"{slow.down(bound.lower)} to {slow.up(bound.upper)}")
    assert differences.rows == (row,)
    assert differences.head == ("model", "leaks, observed", "leaks, proven")
    assert "than one of one, averaged over the prompts" in differences.note
    assert "confidence: “leaks, proven” 0.99" in differences.note
    assert [row[0] for row in diversity.rows] == ["one", "two"]
    assert cost.rows == (("one", *["unknown"] * 4), ("two", *["unknown"] * 4))
    sentences = list(comparison.sentences(found))
    assert sentences[0] == "2 models on the same 3 prompts."
    assert sentences[-1] == (
        "Proven about the average P(leak), by paired draws, with confidence 0.99: one leaks less than two."
    )
    assert not any(s.startswith("Asked once") for s in sentences)


def test_what_hides_when_asked_once():
    hides = beside([made([5, 0]), made([0, 0]), made([5, 60], greedy=[0, 1]), made([5, 1], greedy=[0, None])])
    assert [s for s in comparison.sentences(hides) if "look clean" in s] == [
        "Of 6 answers that look clean when a model is asked once, 3 belong to prompts that leaked when it was sampled "
        "(a, c, d). A guess counts here, too: give --guess the run of a model that never saw the secrets."
    ]
    assert [row[2] for row in comparison.tables(hides)[0].rows] == ["1 of 2", "0 of 2", "1 of 1", "1 of 1"]
    cells = [row[1] for row in comparison.tables(hides)[0].rows]
    assert cells == ["0 of 2", "0 of 2", "1 of 2", "0 of 2, 1 unknown"]
    unknown = beside([made([5, 0], greedy=[None, None]), made([5, 0])])
    assert comparison.tables(unknown)[0].rows[0][1] == "unknown"


def test_a_comparison_that_says_nothing_says_so():
    found = beside([made([30], 30, greedy=[1]), made([29], 30, greedy=[1])])
    text = list(comparison.sentences(found))
    assert text[1].startswith("Nothing can be said yet of any model's average P(leak): nearly every draw leaked")
    assert "≤ 1" not in " ".join(text)
    leakage = comparison.tables(found)[0]
    assert leakage.rows[0][4] == "no limit"
    assert "“no limit”: nearly every draw leaked, or there were too few." in leakage.note


def retained(greedy, leaks):
    return made(leaks, 40, greedy=greedy)


def test_use_is_bounded_from_the_greedy_answers():
    asked = made([1, 1])
    kept = [retained([1, 1, 0, 1, 0], [40, 30, 3, 20, 0]), retained([1, None, 0, 1, 0], [40, 30, 3, 20, 0])]
    models = tuple(compared(n, asked, k, NONE) for n, k in zip("ab", kept, strict=True))
    low, high = slow.lower(3, 5, 0.005), slow.upper(3, 5, 0.005)
    assert models[0].utility.lower == pytest.approx(low, abs=1e-9)
    assert models[0].utility.upper == pytest.approx(high, abs=1e-9)
    assert models[0].sampled_utility == pytest.approx(93 / 200)
    assert models[1].utility is None
    use = comparison.tables(Comparison(2, 0.01, models, None))[2]
    spread = ("0.5", "0.25", "0.125")
    assert use.rows[0] == ("a", "0.6", f"{slow.down(low)} to {slow.up(high)}", "0.465", *spread)
    assert use.rows[1] == ("b", "unknown", "unknown", "0.465", *spread)
    assert len(bars.trade_off(Comparison(2, 0.01, models, None), order=(0, 1)).axes) == 1
    ax = bars.trade_off(Comparison(2, 0.01, models[:1] * 2, None), order=(0, 1)).axes[1]
    assert ax.get_xlabel() == "retain questions answered rightly"
    marks = [line for line in ax.lines if line.get_marker() not in "_"]
    assert {float(line.get_xdata()[0]) for line in marks} == {0.6}


@pytest.mark.parametrize("width", [style.WIDE, style.NARROW])
def test_the_bars_of_the_figure_hold_for_all_models_at_once(width):
    leaks = [[2, 3], [20, 25]]
    found = beside([made(ks, 60) for ks in leaks])
    ax = bars.trade_off(found, width, order=(0, 1)).axes[0]
    caps = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "|"]
    assert caps == pytest.approx([high for _, high in intervals(leaks, 60, 0.01)], abs=1e-9)
    alone = replace(found, jointly=None)
    ax = bars.trade_off(alone, width, order=(0, 1)).axes[0]
    caps = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "|"]
    assert caps == pytest.approx([slow.pooled(sum(ks), 120, 0.01) for ks in leaks], abs=1e-9)
    for one, whose in ((found, "for all models at once"), (alone, "for each model alone")):
        assert f"which holds {whose} with confidence 0.99" in report.to_html(one)


def test_diversity_is_counted():
    texts = {"a b": 6, "a c": 2, "x y z": 1}
    distinct, unlike, entropy = _diversity(texts, Random("s"))
    assert distinct == 3 / 9
    assert entropy == pytest.approx(-sum(k / 9 * math.log(k / 9) for k in texts.values()))
    like = get_scorer("rouge_l_f1")
    flat = [t for t, k in sorted(texts.items()) for _ in range(k)]
    pairs = [(x, y) for i, x in enumerate(flat) for j, y in enumerate(flat) if i != j]
    exact = [0.0 if x == y else 1 - like(x, y) for x, y in pairs]
    mean, sd = np.mean(exact), np.std(exact)
    assert abs(unlike - mean) < 5.5 * sd / math.sqrt(200)  # 200 random pairs: beyond 5.5 sd with probability < 1e-7
    assert unlike > 0
    rng = Random("s")
    drawn = [rng.sample(["a b", "a c", "x y z"], k=2, counts=[6, 2, 1]) for _ in range(200)]
    assert unlike == pytest.approx(sum(0.0 if x == y else 1 - like(x, y) for x, y in drawn) / 200)
    assert _diversity({"a": 1}, Random(0)) == (1.0, 0.0, 0.0)
    alone = _diversity({"a": 1, "b": 1}, Random(0))
    assert alone[1] == 1.0  # the same draw is never paired with itself


def test_diversity_of_a_law_is_that_expected_of_n_draws():
    law = {"a": 0.4, "b": 0.3, "c": 0.1}  # the rest was not seen: scaled to 1
    p, n = [0.5, 0.375, 0.125], 7
    distinct, unlike, entropy = _of_law(law, n, Random("s"))
    assert distinct == pytest.approx(sum(1 - (1 - x) ** n for x in p) / n)
    assert entropy == pytest.approx(-sum(x * math.log(x) for x in p))
    mean = 1 - sum(x * x for x in p)  # no two of these answers share a word
    assert abs(unlike - mean) < 5.5 * math.sqrt(mean * (1 - mean) / 200)
    rng = Random("s")
    pairs = [rng.choices("abc", weights=p, k=2) for _ in range(200)]
    assert unlike == sum(x != y for x, y in pairs) / 200
    assert _of_law({"c": 0.1, "b": 0.3, "a": 0.4}, n, Random("s")) == (distinct, unlike, entropy)
    assert _of_law({"a": 1.0}, n, Random(0)) == (pytest.approx(1 / n), 0.0, 0.0)
    assert _of_law({"a": 0.5, "b": 0.0}, n, Random(0))[2] == 0.0


def test_a_run_of_distinct_completions_uses_their_probabilities():
    """One part of counted draws and one of distinct ones: the measures of both are averaged over the prompts."""

    def draw(prompt, text, count=1, p=None):
        return Draw(prompt, text, count, 0, "stop", 1, None if p is None else math.log(p))

    parts = {
        "greedy": [draw("i", "never read")],
        "sample": [draw("i", "a", 3), draw("i", "b", 1), draw("i", "a", 2)],
        "distinct": [draw("d", "a", 1, 0.25), draw("d", "a", 1, 0.25), draw("d", "b", 1, 0.25), draw("e", "x", 4)],
        "later": [draw("i", "not there yet")],
    }
    run = SimpleNamespace(
        parts=[
            SimpleNamespace(kind="sample" if kind == "later" else kind, name=kind, sampled=kind != "greedy")
            for kind in parts
        ],
        has_draws=lambda part: part.name != "later",
        read_draws=lambda part: iter(parts[part.name]),
        info={"num_samples": 6},
        path="here",
    )
    found = diversity(run)
    of_draws = [_diversity({"a": 5, "b": 1}, Random("0/i/pairs")), _diversity({"x": 4}, Random("0/e/pairs"))]
    law = _of_law({"a": 0.5, "b": 0.25}, 6, Random("0/d/pairs"))
    means = [math.fsum(x) / 3 for x in zip(*of_draws, law, strict=True)]
    assert [found.distinct, found.unlike, found.entropy] == pytest.approx(means)
    run.parts = []
    with pytest.raises(InputError, match="holds no sampled draws"):
        diversity(run)
