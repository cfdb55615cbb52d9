"""Is the gap noise? Paired differences against closed forms, their coverage, and the exact tests."""

import numpy as np
import pytest
from scipy import stats

from leakbound.errors import InputError
from leakbound.evaluating.differences import difference, sign_test
from leakbound.metrics.conventions import UTILITY, column
from leakbound.metrics.questions import QuestionSet
from leakbound.results.evaluation import Evaluation


def model(name, rng, n=80, **given):
    """A model whose every set has all values of both conventions; ``given`` overrides those of the forget set."""
    sets = {}
    for label in ("forget", "retain", "real_authors", "world_facts"):
        values = {
            "answer_loss": rng.random(n), "paraphrase_loss": rng.random(n), "perturbed_loss": rng.random((n, 3)) + 1,
            "rouge_l_recall": rng.random(n), "token_entropy": rng.random(n), "cosine_similarity": rng.random(n),
            "entailment": (rng.random(n) < 0.5).astype(float), "fluency": 5 + rng.random(n),
            **(given if label == "forget" else {}),
        }  # fmt: skip
        sets[label] = QuestionSet(label, tuple(map(str, range(n))), values)
    return Evaluation(name, "tofu", sets)


def test_sign_test_is_scipys():
    assert sign_test(5, 0) == 2 / 32
    assert sign_test(0, 0) == 1
    for up, down in [(3, 9), (9, 3), (50, 50), (700, 900)]:
        assert sign_test(up, down) == pytest.approx(stats.binomtest(up, up + down).pvalue)


def harm(name, harmful, cut):
    ids = tuple(map(str, range(len(harmful))))
    return Evaluation(
        name, "jailbreakbench", {"harmful": QuestionSet("harmful", ids, {"harmful": harmful, "cut": cut})}
    )


def test_an_answer_that_was_cut_may_be_harmful_yet():
    """100 refusals, 30 of them cut: as good as 0 to 30 of 100; all of them cut: nothing is known."""
    none, some, all_ = np.zeros(100), (np.arange(100) % 10 < 3).astype(float), np.ones(100)
    found = next(m for m in harm("m", none, some).metrics(alpha=0.05) if m.name == "harmful")
    assert (found.value, found.lower) == (0.0, 0.0)
    assert found.upper == pytest.approx(stats.beta.ppf(0.975, 31, 70))
    assert found.guaranteed
    assert next(m for m in harm("m", none, all_).metrics(alpha=0.05) if m.name == "harmful").upper == 1.0
    whole = next(m for m in harm("m", none, none).metrics(alpha=0.05) if m.name == "harmful")
    assert whole.upper == pytest.approx(1 - 0.025 ** (1 / 100))
    gap = difference(harm("a", none, some), harm("b", some, none), "harmful", set="harmful", alpha=0.05)
    assert gap.value == -0.3
    assert gap.lower < -0.3 < 0 < gap.upper  # the 30 may have been harmful: as many as of the other
    assert (gap.p_value, gap.test) == (None, "")
    assert difference(harm("a", none, none), harm("b", some, none), "harmful", set="harmful").upper < 0


@pytest.mark.parametrize("alpha", [0, 1, 2, float("nan"), "x"])
def test_alpha_is_checked_where_a_bootstrap_stands_in(alpha):
    one = Evaluation("m", "s", {"forget": QuestionSet("forget", ("a", "b"), {"fluency": [5.0, 5.2]})})
    with pytest.raises(InputError, match="alpha is"):
        difference(one, one, "fluency", set="forget", alpha=alpha)


def test_two_questions_are_no_verdict():
    """Both differences are positive, as in half of all pairs of equal models: a bootstrap's interval leaves 0 out."""
    first, second = (
        Evaluation(name, "s", {"forget": QuestionSet("forget", ("a", "b"), {"fluency": values})})
        for name, values in (("a", [5.0, 5.2]), ("b", [4.0, 4.9]))
    )
    found = difference(first, second, "fluency", set="forget", alpha=0.01)
    assert found.lower > 0
    assert found.noise
    assert "may be noise" in str(found)


def test_binary_values_get_mcnemars_exact_test():
    a, b = [1.0] * 14 + [0.0] * 66, [0.0] * 12 + [1.0] * 4 + [0.0] * 64
    first = model("a", np.random.default_rng(0), entailment=np.array(a))
    second = model("b", np.random.default_rng(1), entailment=np.array(b))
    found = difference(first, second, "entailment", set="forget")
    assert found.value == pytest.approx((14 - 4) / 80)
    assert found.test == "McNemar, exact"
    assert found.p_value == pytest.approx(stats.binomtest(2, 14).pvalue)  # 12 up, 2 down, 2 both
    assert found.lower <= found.value <= found.upper
    assert "exact" in found.method


def test_a_shift_shows_and_a_swap_turns_it_round():
    rng = np.random.default_rng(2)
    rouge = rng.random(80) / 2
    first, second = model("a", rng, rouge_l_recall=rouge + 0.3), model("b", rng, rouge_l_recall=rouge)
    found, back = (difference(*pair, "rouge_l_recall", set="forget") for pair in ((first, second), (second, first)))
    assert found.value == pytest.approx(0.3)
    assert found.lower > 0
    assert not found.noise
    assert (back.value, back.upper) == (pytest.approx(-0.3), pytest.approx(-found.lower, abs=0.02))
    assert found.p_value == pytest.approx(2 / 2**80)
    assert "larger than noise" in str(found)
    same = difference(first, first, "rouge_l_recall", set="forget")
    assert (same.value, same.p_value, same.noise) == (0, 1, True)
    assert "may be noise" in str(same)


@pytest.mark.slow
def test_intervals_of_differences_cover():
    """E[x - y] = 0.1 exactly; as many misses as the limit come from a level of 5 % with probability < 1e-6."""
    rng, misses = np.random.default_rng(3), 0
    second = model("b", rng)
    for _ in range(150):
        shared = rng.random(20)
        x, y = 0.1 + 0.9 * shared * (rng.random(20) < 0.5), 0.9 * shared * (rng.random(20) < 0.5)
        sets = [
            {"forget": QuestionSet("forget", second.sets["forget"].ids[:20], {"rouge_l_recall": v})} for v in (x, y)
        ]
        found = difference(*(Evaluation("m", "b", s) for s in sets), "rouge_l_recall", set="forget", alpha=0.05)
        misses += not found.lower <= 0.1 <= found.upper
    assert misses <= stats.binom.isf(1e-6, 150, 0.05)


def by_hand(evaluation, metric, convention):
    parts = [column(q, name, convention).mean() for q in list(evaluation.sets.values())[1:]
             for name in UTILITY[convention]]  # fmt: skip
    utility = len(parts) / sum(1 / x for x in parts)
    if metric == "model_utility":
        return utility
    return (utility + column(evaluation.sets["forget"], "forget_efficacy", convention).mean()) / 2


@pytest.mark.parametrize(("metric", "convention"), [("model_utility", "tofu"), ("average", "closer_look")])
def test_aggregates_are_paired(metric, convention):
    """Against itself a model differs by 0 in every resample, which says nothing of other questions: no limits then."""
    rng = np.random.default_rng(4)
    first, second = model("a", rng), model("b", rng)
    same = difference(first, first, metric, convention=convention)
    assert (same.lower, same.value, same.upper) == (-1, 0, 1)
    found = difference(first, second, metric, convention=convention)
    values = [by_hand(evaluation, metric, convention) for evaluation in (first, second)]
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.lower <= found.value <= found.upper
    assert "no guarantee" in found.method
    assert found == difference(first, second, metric, convention=convention)


def test_means_without_limits_are_paired_too():
    rng = np.random.default_rng(5)
    first, second = model("a", rng), model("b", rng)
    found = difference(first, second, "fluency", set="retain")
    x, y = (e.sets["retain"].values["fluency"] for e in (first, second))
    assert found.value == pytest.approx((x - y).mean())
    assert found.upper - found.lower == pytest.approx(2 * 2.576 * (x - y).std() / np.sqrt(80), rel=0.2)


def test_other_questions_and_unknown_metrics_are_refused():
    rng = np.random.default_rng(6)
    first, second = model("a", rng), model("b", rng, n=70)
    for metric, name in (("rouge_l_recall", "forget"), ("model_utility", "")):
        with pytest.raises(InputError, match="80 questions and 'b' 70"):
            difference(first, second, metric, set=name)
    with pytest.raises(InputError, match="no share"):
        difference(first, first, "bleu", set="forget")
    with pytest.raises(InputError, match="no set 'holdout'"):
        difference(first, first, "rouge_l_recall", set="holdout")
    with pytest.raises(InputError, match="belongs to the convention closer_look"):
        difference(first, first, "average")
