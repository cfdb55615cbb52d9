"""What is said about each prompt and about the average one, against the bounds called by hand and own counts."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from leakbound import bounds
from leakbound.auditing.concluding import (
    BINARY,
    METHODS,
    NUM_WORST,
    SURVIVAL_GRID,
    Collected,
    Levels,
    average_leak,
    average_score,
    judge,
)
from leakbound.auditing.drawing import Statement
from leakbound.auditing.stopping import StoppingRule, Watch
from leakbound.bounds import Evidence, seen
from leakbound.bounds.certificates import exact_limits, without_replacement_bound
from leakbound.errors import IncompleteRunError, InputError
from leakbound.records import Draw, Prompt
from leakbound.results.audit import PromptAudit, ScoredCompletion
from leakbound.runs.layout import Part

ALPHA, THRESHOLD = 0.02, 0.8
GRADED = Statement("rouge_l", THRESHOLD, ALPHA)
BINARY_STATEMENT = Statement("contains", 1.0, ALPHA)
EVENT = "P(h >= 0.8)"
JOINTLY = "this prompt, jointly with all others"
GRID = [i / 100 for i in range(100)]
SCORES = {"w": 0.1, "b": 0.8 - 1e-12, "a": 0.8, "d": 0.3, "c": 0.3, "z": 0.0, "y": 0.0, "x": 0.1}
"""b and a reach the threshold: b is 0.8 but for rounding; d and c tie, as do z and y, w and x."""
ONES = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 1.0}


def random_texts(seed, n, texts="wbadczyx", odds=None):
    """What a prompt's draws say, in the order of generation."""
    return [texts[i] for i in np.random.default_rng(seed).choice(len(texts), n, p=odds)]


def independent(name, said, scores, *, cut=(), parts=2, places=True, greedy=None, ordered=True):
    """A prompt's independent draws, in some parts; ``cut`` are the numbers of the draws that were cut."""
    collected = Collected(Prompt(name, "What?", "secret"), ordered=ordered)
    if greedy is not None:
        draw = Draw(name, greedy, 1, 0, "stop", 3, places=(0,))
        collected.add(Part("greedy-00000", 0, 1, 0, 1), draw, scores[greedy])
    edges = np.linspace(0, len(said), parts + 1).astype(int)
    for k, (begin, end) in enumerate(pairwise(edges)):
        found = {}
        for i in range(begin, end):
            found.setdefault((said[i], "length" if i in cut else "stop"), []).append(i)
        part = Part(f"sample-{k:05d}", 0, 1, int(begin), int(end - begin))
        for (text, why), numbers in found.items():
            where = tuple(numbers) if places else None
            collected.add(part, Draw(name, text, len(numbers), numbers[0], why, 3, places=where), scores[text])
    return collected


def distinct(name, rows, *, greedy=None):
    """A prompt's completions drawn without replacement: (text, log probability, score, finish reason) in order."""
    collected = Collected(Prompt(name, "What?", "secret"))
    if greedy is not None:
        collected.add(Part("greedy-00000", 0, 1, 0, 1), Draw(name, greedy[0], 1, 0, "stop", 3), greedy[1])
    for i, (text, logprob, value, why) in enumerate(rows):
        part = Part("distinct-00000", 0, 1, 0, len(rows))
        collected.add(part, Draw(name, text, 1, i, why, 3, logprob, (i,)), value)
    return collected


ROWS = [
    ("q", math.log(0.25), 0.2, "stop"),
    ("p", math.log(0.125), 0.8, "length"),
    ("m", math.log(0.0625), 0.5, "stop"),
    ("o", math.log(0.03125), 0.8, "stop"),
    ("n", math.log(0.0625), 0.5, "length"),
    ("k", math.log(0.09375), 0.5, "stop"),
    ("l", math.log(0.0078125), 0.0, "length"),
]
MASSES = np.exp([logprob for _, logprob, _, _ in ROWS])
H = np.array([0.2, 0.8, 0.5, 0.8, 0.5, 0.5, 0.0])
LEAKS = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
CUT_CLEAN = math.fsum(math.exp(ROWS[i][1]) for i in (4, 6))


def joint(bound, num_prompts):
    """The bound at the joint level, as it is said: by Sidak's formula."""
    each = 1 - (1 - ALPHA) ** (1 / num_prompts)
    assert bound.alpha == pytest.approx(each, rel=1e-9)
    return dataclasses.replace(bound, alpha=ALPHA, scope=JOINTLY, method=f"{bound.method}, at level {each:.3g} each")


def small(num_prompts):
    return bounds.simultaneous_alpha(ALPHA, num_prompts)


def expected_worst(said, scores, cut=()):
    """Score down, then count down, then text up: sorted three times, the last key first."""
    found = [
        ScoredCompletion(text, count, scores[text], why)
        for (text, why), count in Counter((t, "length" if i in cut else "stop") for i, t in enumerate(said)).items()
    ]
    found.sort(key=lambda c: c.text)
    found.sort(key=lambda c: c.count, reverse=True)
    found.sort(key=lambda c: c.score, reverse=True)
    return tuple(found[:5])


def expected(collected, said, scores, *, leak, jointly, moments, survival, cut=(), threshold=THRESHOLD, **more):
    """The record, its numbers counted draw by draw."""
    x = [scores[text] for text in said]
    mean = sum(x) / len(x)
    sd = math.sqrt(sum((one - mean) ** 2 for one in x) / len(x))
    assert more["greedy_text"] is None or more["greedy_score"] == scores[more["greedy_text"]]
    record = PromptAudit(
        prompt=collected.prompt,
        greedy_finish=None if more["greedy_text"] is None else "stop",
        cut_clean=sum(x[i] <= threshold - 1e-9 for i in cut) / len(said),
        num_samples=len(said),
        num_distinct=len(set(said)),
        num_truncated=len(cut),
        num_leaks=sum(one > threshold - 1e-9 for one in x),
        max_score=sorted(x)[-1],
        leak=leak,
        leak_jointly=jointly,
        mean=moments[0],
        std=moments[1],
        survival=survival,
        ed=bounds.ed_score(x),
        ed_bound=moments[2],
        worst=expected_worst(said, scores, cut),
        **more,
    )
    assert record.ed == pytest.approx(mean + 2 * sd)
    return record


NO_GREEDY = {"greedy_text": None, "greedy_score": None}


def at_look(bound, num_looks):
    return dataclasses.replace(bound, alpha=ALPHA, method=f"{bound.method}, valid at each of {num_looks} looks")


def test_the_choices_in_force():
    assert list(SURVIVAL_GRID) == [float(f"0.{i:02d}") for i in range(100)]
    assert NUM_WORST == 5
    assert METHODS["default"] == {"mean": "betting", "std": "betting", "ed": "betting", "survival": "hybrid"}
    assert METHODS["paper"] == {"mean": "paper", "std": "paper", "ed": "betting", "survival": "paper"}
    assert BINARY == {"mean": "binary", "std": "binary", "ed": "binary"}


@pytest.mark.parametrize("method", ["default", "paper"])
@pytest.mark.parametrize("places", [True, False])
def test_graded_draws_of_fixed_number(method, places):
    cut = (3, 4, 5, 17)
    texts = [random_texts(1, 60), random_texts(2, 45, "bzw"), random_texts(3, 60, "dczy")]
    given = [{"greedy": "c", "cut": cut}, {}, {"parts": 1}]
    everyone = [
        independent(f"p{i}", said, SCORES, places=places, **more)
        for i, (said, more) in enumerate(zip(texts, given, strict=True))
    ]
    names = METHODS[method]
    found = judge(everyone, Levels(GRADED, 3), method, {})
    assert len(found) == 3
    for i, (one, said, result) in enumerate(zip(everyone, texts, found, strict=True)):
        x = np.array([SCORES[t] for t in said])
        n, k = len(said), sum(t in "ab" for t in said)
        count = Counter(SCORES[t] for t in said)
        data = (x, None) if places else (np.array(list(count)), np.array(list(count.values())))
        moments = [
            make(data[0], counts=data[1], alpha=ALPHA, method=names[name])
            for make, name in [(bounds.mean_bound, "mean"), (bounds.std_bound, "std"), (bounds.ed_bound, "ed")]
        ]
        assert (i == 2) == (k == 0)
        assert result == expected(
            one, said, SCORES,
            leak=bounds.proportion_bound(k, n, alpha=ALPHA, estimand=EVENT),
            jointly=joint(bounds.proportion_bound(k, n, alpha=small(3), estimand=EVENT), 3),
            moments=moments,
            survival=bounds.survival_bound(x, alpha=ALPHA, thresholds=GRID, method=names["survival"]),
            cut=cut if i == 0 else (),
            **({"greedy_text": "c", "greedy_score": 0.3} if i == 0 else NO_GREEDY),
        )  # fmt: skip
        assert (result.verdict, result.looks, result.seen_mass, result.limits) == ("", (), None, None)
        assert result.leak.upper < result.leak_jointly.upper


def test_the_worst_come_by_score_then_count_then_text():
    said = list("zzzyyybdcccwddxxaaw")
    (found,) = judge([independent("p", said, SCORES, cut=(2,))], Levels(GRADED, 1), "default", {})
    shown = [(c.text, c.count, c.finish_reason) for c in found.worst]
    assert shown == [("a", 2, "stop"), ("b", 1, "stop"), ("c", 3, "stop"), ("d", 3, "stop"), ("w", 2, "stop")]
    assert (found.num_distinct, found.num_truncated, found.num_leaks, found.max_score) == (8, 1, 3, 0.8)


def test_the_order_of_draws_is_kept_or_known_to_be_unknown():
    said = list("abwwadzzbz")
    x = [SCORES[t] for t in said]
    for parts in (1, 2, 5):
        draws, counts = independent("p", said, SCORES, parts=parts).draws
        assert counts is None
        assert draws.tolist() == x
    for unordered in (independent("p", said, SCORES, places=False), independent("p", said, SCORES, ordered=False)):
        values, counts = unordered.draws
        assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == Counter(x)
        assert counts.sum() == 10
    mixed = Collected(Prompt("p", "What?", "secret"))
    part = Part("sample-00000", 0, 1, 0, 3)
    mixed.add(part, Draw("p", "a", 1, 0, "stop", 1, places=(0,)), 0.8)
    mixed.add(part, Draw("p", "b", 1, 1, "stop", 1), 0.2)
    mixed.add(part, Draw("p", "c", 1, 2, "stop", 1, places=(2,)), 0.1)
    assert mixed.draws[1].tolist() == [1, 1, 1]
    usual = Collected(Prompt("p", "What?", "secret"))  # keeps the order
    usual.add(part, Draw("p", "a", 2, 0, "stop", 1, places=(0, 2)), 0.8)
    usual.add(part, Draw("p", "b", 1, 1, "stop", 1, places=(1,)), 0.2)
    assert usual.draws[0].tolist() == [0.8, 0.2, 0.8]


def test_a_draw_that_is_there_twice_is_refused():
    one = independent("p", list("ab"), SCORES, parts=1)
    one.add(Part("sample-00001", 0, 1, 1, 1), Draw("p", "w", 1, 1, "stop", 1, places=(1,)), 0.1)
    with pytest.raises(InputError, match="places name a draw twice"):
        judge([one], Levels(GRADED, 1), "default", {})


@pytest.mark.parametrize("method", ["default", "paper"])
def test_a_binary_scorer(method):
    said = random_texts(4, 50, "abcd", [0.1, 0.4, 0.4, 0.1])
    x, k = np.array([ONES[t] for t in said]), sum(t in "ad" for t in said)
    assert 0 < k < 50
    levels = Levels(BINARY_STATEMENT, 2)
    assert levels.binary
    assert not Levels(GRADED, 2).binary
    one = independent("p", said, ONES, ordered=False)
    found = judge([one, independent("q", list("bc"), ONES, ordered=False)], levels, method, {})
    names = {"default": ("binary",) * 3, "paper": ("paper", "paper", "betting")}[method]
    count = np.array([k, 50 - k])
    makers = (bounds.mean_bound, bounds.std_bound, bounds.ed_bound)
    moments = [m([1.0, 0.0], counts=count, alpha=ALPHA, method=s) for m, s in zip(makers, names, strict=True)]
    name = "P(h >= 1)"
    assert found[0] == expected(
        one, said, ONES, threshold=1.0,
        leak=bounds.proportion_bound(k, 50, alpha=ALPHA, estimand=name),
        jointly=joint(bounds.proportion_bound(k, 50, alpha=small(2), estimand=name), 2),
        moments=moments,
        survival=bounds.survival_bound(
            x, alpha=ALPHA, thresholds=GRID, method="hybrid" if method == "default" else "paper"
        ),
        **NO_GREEDY,
    )  # fmt: skip
    assert (found[1].num_leaks, found[1].num_samples, found[1].max_score) == (0, 2, 0.0)


def test_paper_needs_independent_draws():
    iid = [independent(f"p{i}", random_texts(i, 20), SCORES) for i in range(3)]
    other = [distinct("q", ROWS), distinct("r", ROWS)]
    with pytest.raises(InputError, match=r"method is 'paper'.* and 2 prompts were drawn without replacement"):
        judge([*iid[:2], *other, iid[2]], Levels(GRADED, 5), "paper", {})
    assert len(judge(iid, Levels(GRADED, 3), "paper", {})) == 3


def test_distinct_completions_among_independent_ones():
    texts = [random_texts(5, 30), random_texts(6, 30)]
    iid = [independent(f"p{i}", said, SCORES) for i, said in enumerate(texts)]
    one = distinct("q", ROWS, greedy=("q", 0.2))
    found = judge([iid[0], one, iid[1]], Levels(GRADED, 3), "default", {})
    for result, said in ((found[0], texts[0]), (found[2], texts[1])):
        assert result.mean == bounds.mean_bound([SCORES[t] for t in said], alpha=ALPHA)
        assert result.engine == "iid"
    p = [float(m) for m in MASSES]
    worst = tuple(ScoredCompletion(ROWS[i][0], 1, ROWS[i][2], ROWS[i][3], p[i]) for i in (1, 3, 5, 2, 4))
    assert found[1] == PromptAudit(
        prompt=one.prompt,
        greedy_text="q",
        greedy_score=0.2,
        greedy_finish="stop",
        cut_clean=CUT_CLEAN,
        num_samples=7,
        num_distinct=7,
        num_truncated=3,
        num_leaks=2,
        max_score=0.8,
        leak=without_replacement_bound(MASSES, LEAKS, alpha=ALPHA, estimand=EVENT),
        leak_jointly=joint(without_replacement_bound(MASSES, LEAKS, alpha=small(3), estimand=EVENT), 3),
        mean=without_replacement_bound(MASSES, H, alpha=ALPHA),
        std=seen.seen_std_bound(MASSES, H, alpha=ALPHA),
        survival=seen.seen_survival_bound(MASSES, H, alpha=ALPHA, thresholds=GRID),
        ed=seen.seen_ed_score(MASSES, H),
        ed_bound=seen.seen_ed_bound(MASSES, H, alpha=ALPHA),
        worst=worst,
        seen_mass=float(MASSES.sum()),
        limits=exact_limits(MASSES, LEAKS, alpha=ALPHA, estimand=EVENT),
    )
    assert found[1].seen_mass == pytest.approx(0.6328125)
    assert found[1].engine == "without-replacement"
    assert found[1].limits.lower == pytest.approx(0.15625)
    assert found[1].limits.upper == pytest.approx(0.15625 + 1 - 0.6328125)


def test_distinct_completions_without_a_greedy_answer_or_of_one_text():
    rows = [*ROWS, ("q", math.log(0.01), 0.2, "length")]  # the same text, in other tokens
    (found,) = judge([distinct("q", rows)], Levels(GRADED, 1), "default", {})
    assert (found.greedy_text, found.greedy_score) == (None, None)
    assert (found.num_samples, found.num_distinct, found.num_truncated) == (8, 7, 4)


def test_a_probability_too_small_for_a_float_comes_last_among_equals():
    one = distinct("q", [("a", -1000.0, 0.8, "stop"), ("b", math.log(0.25), 0.8, "stop")])
    (found,) = judge([one], Levels(GRADED, 1), "default", {})
    assert [(c.text, c.probability) for c in found.worst] == [("b", 0.25), ("a", 0.0)]


def test_probabilities_are_capped_where_rounding_made_them_too_large():
    one = distinct("q", [("a", 1e-9, 0.8, "stop")])
    assert one.masses.tolist() == [1.0]
    two = distinct("r", [("a", math.log(0.5), 0.8, "stop"), ("b", math.log(0.5 + 4e-7), 0.1, "stop")])
    assert two.masses.sum() > 1
    found = judge([one, two], Levels(GRADED, 2), "default", {})
    assert [p.seen_mass for p in found] == [1.0, 1.0]
    assert [p.worst[0].probability for p in found] == [1.0, pytest.approx(0.5)]


def test_distinct_completions_need_their_probabilities():
    with pytest.raises(InputError, match="masses"):
        judge([distinct("q", [*ROWS, ("s", None, 0.0, "stop")])], Levels(GRADED, 1), "default", {})


UNTIL = StoppingRule("leak<=0.1", None, 300, THRESHOLD, ALPHA)


def watched(rule, said, scores):
    """The rule's look at all the draws at once."""
    watch = Watch(rule)
    watch.add(np.array([scores[t] for t in said]), np.ones(len(said), dtype=np.int64))
    return watch


@pytest.mark.parametrize("places", [True, False, "sorted"])
@pytest.mark.parametrize("method", ["default", "paper"])
@pytest.mark.parametrize("same", [True, False])
def test_prompts_that_stopped(places, method, same):
    sizes = UNTIL.sizes()
    n = sizes[2]
    said = [random_texts(7, sizes[0]), random_texts(8, n, odds=[0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])]
    if places == "sorted":
        said = [sorted(texts, key=SCORES.get) for texts in said]
    everyone = [independent(f"p{i}", texts, SCORES, places=bool(places)) for i, texts in enumerate(said)]
    watches = {f"p{i}": watched(UNTIL, texts, SCORES) for i, texts in enumerate(said)}
    statement = GRADED if same else Statement("rouge_l", 0.3, ALPHA)
    threshold, estimand = statement.threshold, f"P(h >= {statement.threshold})"
    levels = Levels(statement, 2, UNTIL, watched=same)
    found = judge(everyone, levels, method, watches)
    names = METHODS[method]
    for i, (one, texts, look) in enumerate(zip(everyone, said, (0, 2), strict=True)):
        x, k = [SCORES[t] for t in texts], sum(SCORES[t] > threshold - 1e-9 for t in texts)
        share = bounds.look_shares(len(sizes))[look] * ALPHA
        assert levels.level(len(texts)) == share
        if method == "default" and places:  # also where they look sorted: no score picks the method
            make = bounds.mean_sequence_bound, bounds.std_sequence_bound, bounds.ed_sequence_bound
            moments = [m(x, alpha=ALPHA) for m in make]
        else:
            count = Counter(x)
            values, counts = list(count), list(count.values())  # bounds of a look's share: the order is not used
            make = (bounds.mean_bound, "mean"), (bounds.std_bound, "std"), (bounds.ed_bound, "ed")
            moments = [
                at_look(m(values, counts=counts, alpha=share, method=names[name]), len(sizes)) for m, name in make
            ]
            if method == "default":
                moments[0] = bounds.mean_sequence_bound(x, alpha=ALPHA)
        assert found[i] == expected(
            one, texts, SCORES, threshold=threshold,
            leak=bounds.leak_sequence_bound(k, len(x), alpha=ALPHA, estimand=estimand),
            jointly=joint(bounds.leak_sequence_bound(k, len(x), alpha=small(2), estimand=estimand), 2),
            moments=moments,
            survival=at_look(
                bounds.survival_bound(x, alpha=share, thresholds=GRID, method=names["survival"]), len(sizes)
            ),
            verdict=watches[f"p{i}"].verdict if same else "",
            looks=tuple(watches[f"p{i}"].looks) if same else (),
            **NO_GREEDY,
        )  # fmt: skip
    assert (found[0].verdict != "", len(found[0].looks)) == (same, int(same))


def test_a_binary_scorer_that_stopped():
    rule = StoppingRule("leak<=0.1", None, 300, 1.0, ALPHA)
    n = rule.sizes()[1]
    said = random_texts(9, n, "abcd", [0.02, 0.48, 0.48, 0.02])
    k = sum(t in "ad" for t in said)
    one = independent("p", said, ONES, ordered=False)
    (found,) = judge([one], Levels(BINARY_STATEMENT, 1, rule), "default", {})
    leak = bounds.leak_sequence_bound(k, n, alpha=ALPHA, estimand="P(h >= 1)")
    assert (found.leak, found.num_leaks) == (leak, k)
    assert (found.mean, found.std, found.ed_bound) == bounds.bounds_of_binary(leak)
    assert (found.verdict, found.looks) == ("", ())  # nobody watched it
    (paper,) = judge([one], Levels(BINARY_STATEMENT, 1, rule), "paper", {})
    share = bounds.look_shares(len(rule.sizes()))[1] * ALPHA
    mean = bounds.mean_bound([1.0, 0.0], counts=[k, n - k], alpha=share, method="paper")
    assert paper.mean == at_look(mean, len(rule.sizes()))


@pytest.mark.parametrize("same", [True, False])
def test_prompts_that_stopped_at_a_width(same):
    rule = StoppingRule(None, 0.2, 400, THRESHOLD, ALPHA)
    sizes, low = rule.plan.sizes, rule.plan.low
    place = next(j for j, most in enumerate(low) if most > 0)
    n, k = sizes[place], low[place]
    said = ["a"] * k + ["w", "z"] * n
    said = [said[i] for i in np.random.default_rng(10).permutation(n)]
    assert said.count("a") == k
    watch = watched(rule, said, SCORES)
    one = independent("p", said, SCORES)
    levels = Levels(GRADED, 2, rule) if same else Levels(GRADED, 2, rule, watched=False)
    (found,) = judge([one], levels, "default", {"p": watch})
    make, plan = (bounds.group_bound, (rule.plan,)) if same else (bounds.leak_sequence_bound, ())
    assert found.leak == make(*plan, k, n, alpha=ALPHA, estimand=EVENT)
    assert found.leak_jointly == joint(make(*plan, k, n, alpha=small(2), estimand=EVENT), 2)
    assert found.mean == bounds.mean_sequence_bound([SCORES[t] for t in said], alpha=ALPHA)
    assert (found.verdict, len(found.looks)) == (("proven", 1) if same else ("", 0))


def test_a_number_of_draws_at_which_the_rule_does_not_look():
    sizes = UNTIL.sizes()
    one = independent("p", random_texts(11, sizes[0] + 1), SCORES)
    listed = ", ".join(str(n) for n in sizes)
    with pytest.raises(IncompleteRunError, match=f"has {sizes[0] + 1} draws, and the rule looks at {listed} only"):
        judge([one], Levels(GRADED, 1, UNTIL), "default", {})
    assert Levels(GRADED, 1).level(sizes[0] + 1) == ALPHA
    assert Levels(GRADED, 1).shares == {}
    assert Levels(GRADED, 1).name("m") == "m"
    assert Levels(GRADED, 1, UNTIL).shares == dict(zip(sizes, bounds.look_shares(len(sizes)), strict=True))


def test_each_prompt_has_the_draws_of_one_engine():
    iid, other = independent("p", list("abwz"), SCORES), distinct("q", ROWS)
    iid.check(4)
    other.check(4)
    both = distinct("r", ROWS[:1])
    for text in "abwz":
        both.add(Part("sample-00000", 0, 1, 0, 4), Draw("r", text, 1, 0, "stop", 1), SCORES[text])
    single = independent("s", list("a"), SCORES, parts=1)
    single.check(1)
    for wrong, size, text in (
        (iid, 5, "'p' has 4 independent draws and 0 without"),
        (iid, 3, "'p' has 4 independent draws and 0 without"),
        (both, 4, "'r' has 4 independent draws and 1 without"),
        (both, 5, "'r' has 4 independent draws and 1 without"),
        (single, 4, "'s' has 1 independent draws and 0 without"),
        (Collected(iid.prompt), 4, "'p' has 0 independent draws and 0 without"),
    ):
        with pytest.raises(IncompleteRunError, match=text):
            wrong.check(size)


@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("lengths", [(40, 40, 40), (40, 20, 30)])
def test_averages_of_fixed_numbers(places, lengths):
    texts = [random_texts(20 + i, n) for i, n in enumerate(lengths)]
    everyone = [independent(f"p{i}", said, SCORES, places=places) for i, said in enumerate(texts)]
    leaks = [sum(t in "ab" for t in said) for said in texts]
    levels = Levels(GRADED, 3)
    assert average_leak(everyone, levels) == bounds.average_proportion_bound(
        leaks, list(lengths), alpha=ALPHA, estimand=EVENT
    )
    assert average_score(everyone, levels) == bounds.average_mean_bound(
        [[SCORES[t] for t in said] for said in texts], alpha=ALPHA
    )


@pytest.mark.parametrize("kind", ["stopped", "distinct", "both"])
def test_averages_that_need_the_product(kind):
    sizes = UNTIL.sizes()
    texts = [random_texts(30, sizes[0]), random_texts(31, sizes[1])]
    everyone = [independent(f"p{i}", said, SCORES) for i, said in enumerate(texts)]
    scores = [[SCORES[t] for t in said] for said in texts]
    hits = [[float(t in "ab") for t in said] for said in texts]
    leaks, means = [Evidence.independent(h) for h in hits], [Evidence.independent(x) for x in scores]
    if kind != "stopped":
        everyone.insert(1, distinct("q", ROWS))
        leaks.insert(1, Evidence.without_replacement(MASSES, LEAKS))
        means.insert(1, Evidence.without_replacement(MASSES, H))
    levels = Levels(GRADED, len(everyone), None if kind == "distinct" else UNTIL)
    assert average_leak(everyone, levels) == bounds.product_average_bound(leaks, alpha=ALPHA, estimand=EVENT)
    assert average_score(everyone, levels) == bounds.product_average_bound(means, alpha=ALPHA)
