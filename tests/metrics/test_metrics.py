"""Every metric against numbers that can be redone by hand, and against slow restatements."""

import math
import zlib
from itertools import combinations

import numpy as np
import pytest

from leakbound import metrics as m
from leakbound.errors import InputError

LN2 = math.log(2)


def near(value, wanted):
    assert np.asarray(value) == pytest.approx(wanted, abs=1e-12)


def test_answer_probability_is_the_token_mean():
    near(m.answer_probability([0.0, LN2, 2 * LN2]), [1, 0.5, 0.25])


def test_rounding_makes_no_probability_above_one():
    near(m.answer_probability([-1e-7]), [1])
    assert m.mia_loss([1e-7, 0.0]) == 0


def test_normalised_probability():
    near(m.normalised_probability([LN2], [[2 * LN2, 2 * LN2]]), [0.5])  # 1/2 beside 1/4 and 1/4
    near(m.normalised_probability([0.0, 2000.0], [[2000.0] * 3, [0.0] * 3]), [1, 0])  # no overflow


def test_truth_ratio_is_wrong_over_right():
    ratio = m.truth_ratio([LN2, 3 * LN2], [[2 * LN2, 4 * LN2], [LN2, LN2]])  # 1/8 over 1/2; 1/2 over 1/8
    near(ratio, [0.25, 4])
    near(m.truth_ratio_known(ratio), [0.75, 0])
    near(m.truth_ratio_unknown(ratio), [0.25, 0.25])
    near(m.truth_ratio_leaked(ratio), [0.75, 0.75])
    near(m.truth_ratio_known([1.0, 0.0, np.inf]), [0, 1, 0])
    near(m.truth_ratio_unknown([1.0, 0.0, np.inf]), [1, 0, 0])


def test_the_conventions_of_the_truth_ratio_point_where_they_say():
    """A model that forgets moves from r near 0 to r near 1: TOFU's forget number rises, closer-look's falls."""
    knows, forgot = m.truth_ratio([0.1, 2.0], [[3.0, 3.0], [2.1, 2.1]])
    assert m.truth_ratio_unknown([knows]) < m.truth_ratio_unknown([forgot])
    assert m.truth_ratio_leaked([knows]) > m.truth_ratio_leaked([forgot])
    assert m.truth_ratio_known([knows]) > m.truth_ratio_known([forgot])


def slow_extraction_strength(flags):
    """The published definition: the smallest k after which every token is right; nothing extracted is 0."""
    for k in range(len(flags)):
        if all(flags[k:]):
            return 1 - k / len(flags)
    return 0.0


@pytest.mark.parametrize(
    ("flags", "strength", "exact"),
    [([1, 0, 1, 1], 0.5, 0.75), ([0, 0], 0, 0), ([1, 1], 1, 1), ([1, 0], 0, 0.5), ([1], 1, 1), ([0], 0, 0)],
)
def test_memorization(flags, strength, exact):
    assert m.extraction_strength(flags) == pytest.approx(strength)
    assert m.extraction_strength(np.array(flags, dtype=bool)) == pytest.approx(slow_extraction_strength(flags))
    assert m.exact_memorization(flags) == exact


def test_extraction_strength_on_random_flags():
    rng = np.random.default_rng(0)
    for _ in range(200):
        flags = rng.random(rng.integers(1, 12)) < 0.7
        assert m.extraction_strength(flags) == pytest.approx(slow_extraction_strength(flags.tolist()))


def test_token_entropy_and_fluency():
    assert m.token_entropy(["a", "a", "b", "b"]) == pytest.approx(0.5)  # 1 bit of 2
    assert m.token_entropy([7, 8, 9]) == pytest.approx(1)
    assert [m.token_entropy(t) for t in ([], ["a"], ["a"] * 9)] == [0, 0, 0]
    h2 = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))  # ab ba ab; aba bab
    assert m.fluency("a b a b") == pytest.approx(h2 / 3 + 2 / 3)
    assert m.fluency("a a a a a") == 0
    assert m.fluency("two words") == 0


def test_cosine_similarity_is_clipped_at_zero():
    near(m.cosine_similarity([[1.0, 0], [1, 0], [3, 4]], [[1.0, 1], [-1, 0], [6, 8]]), [1 / math.sqrt(2), 0, 1])
    with pytest.raises(InputError, match="question 1 is zero"):
        m.cosine_similarity([[1.0, 0], [0, 0]], [[1.0, 0], [1, 0]])
    with pytest.raises(InputError, match="shape"):
        m.cosine_similarity([[1.0, 0]], [[1.0]])


def test_entailment_counts_only_with_some_overlap():
    near(m.entailment_score([1, 1, 0], [0.1, 0.0999, 1.0]), [1, 0, 0])
    near(m.entailment_score([1, 1, 0], [0.1, 0.0999, 1.0], least_rouge=0), [1, 1, 0])
    with pytest.raises(InputError, match="0 and 1"):
        m.entailment_score([0.5], [1.0])


def test_directions_of_entailment_are_those_of_the_published_code():
    assert m.ENTAILMENT_DIRECTION == {
        "forget": ("output", "truth"),
        "retain": ("truth", "output"),
        "real_authors": ("truth", "output"),
        "world_facts": ("truth", "output"),
        "neighbor": ("output", "truth"),
    }


def test_muse_scores_with_rouge_f1():
    said, truth = "the cat sat", "the cat sat on the mat"  # LCS 3: precision 1, recall 1/2
    assert m.verbatim_memorization(said, truth) == pytest.approx(2 / 3)
    assert m.knowledge_memorization(said, truth) == pytest.approx(2 / 3)


def test_attack_scores():
    assert m.mia_loss([-1.0, -3.0]) == 2
    assert m.mia_zlib([-1.0, -3.0], "aé") == 2 / len(zlib.compress("aé".encode()))
    assert m.mia_min_k([-1.0, -5.0, -1.0, -4.0, -1.0]) == 4.5  # 0.4 of 5 tokens: two
    assert m.mia_min_k([-1.0, -5.0], share=0.1) == 5  # at least one
    assert m.mia_min_k_plus_plus([-2.0, -4.0], [-1.0, -2.0], [1.0, 4.0], share=0.5) == 1  # -1 and -1/2
    assert m.mia_min_k_plus_plus([-1e-9], [-2e-9], [0.0]) == pytest.approx(0, abs=1e-5)  # a certain token
    assert m.mia_reference([-1.0, -3.0], [-1.0, -2.0]) == pytest.approx(0.5)
    assert m.mia_gradient_norm([3.0, 4.0]) == 5
    with pytest.raises(InputError, match="share"):
        m.mia_min_k([-1.0], share=0)


def test_auc_counts_pairs_and_half_the_ties():
    assert m.membership_auc([1.0, 2.0], [2.0, 3.0]) == 3.5 / 4
    assert m.membership_auc([0.0, 1.0], [2.0, 3.0]) == 1  # the forget set has the lower losses: recognised
    rng = np.random.default_rng(1)
    for _ in range(20):
        forget, holdout = rng.integers(0, 6, 7).astype(float), rng.integers(0, 6, 9).astype(float)
        pairs = [(h > f) + (h == f) / 2 for f in forget for h in holdout]
        assert m.membership_auc(forget, holdout) == pytest.approx(np.mean(pairs))


def test_priv_leak_has_muses_sign():
    assert m.priv_leak(0.9, 0.5) == pytest.approx((0.1 - 0.5) / 0.5)  # still recognised: negative
    assert m.priv_leak(0.2, 0.5) == pytest.approx((0.8 - 0.5) / 0.5)  # overshot: positive
    assert m.priv_leak(0.4, 0.4) == 0
    with pytest.raises(InputError, match="no value"):
        m.priv_leak(0.5, 1.0)
    with pytest.raises(InputError, match="auc_unlearned"):
        m.priv_leak(1.5, 0.5)


def test_priv_leak_agrees_with_two_published_evaluations():
    """Two public open-unlearning evaluations against one reference: (AUC of min-k, PrivLeak in percent) of each.

    The first gives the reference's AUC, which must explain the second.
    """
    (auc, leak), (other_auc, other_leak) = (0.38209375, 0.08402340506019135), (0.996669, -99.460428)
    reference = 1 - (1 - auc) / (1 + leak / 100)
    assert 100 * m.priv_leak(auc, reference) == pytest.approx(leak)
    assert 100 * m.priv_leak(other_auc, reference) == pytest.approx(other_leak, abs=2e-4)


def test_harmonic_mean_and_averages():
    assert m.harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert m.harmonic_mean([0.5, 0.0, 1.0]) == 0  # one zero is enough
    assert m.harmonic_mean([0.25] * 9) == pytest.approx(0.25)
    assert m.average_score(0.4, 0.8) == pytest.approx(0.6)
    near(m.forget_efficacy([0.5, 0], [0.1, 0], [0.4, 0], [1, 0], [1, 0]), [1 - 3 / 5, 1])


def test_ks_distance_and_the_exact_p_value():
    assert m.ks_distance([1.0, 2, 3], [2.0, 3, 4]) == pytest.approx(1 / 3)
    first, second = [0.1, 0.2, 0.4], [0.3, 0.5, 0.6]
    observed, pool = m.ks_distance(first, second), first + second
    splits = list(combinations(range(6), 3))
    distances = [m.ks_distance([pool[i] for i in s], [pool[i] for i in range(6) if i not in s]) for s in splits]
    exact = np.mean([d >= observed - 1e-9 for d in distances])
    assert m.forget_quality(first, second) == pytest.approx(exact)
    assert m.forget_quality([1 / x for x in first], [1 / x for x in second]) == pytest.approx(exact)
    assert m.forget_quality([1.0, 2, 3], [4.0, 5, 6]) == pytest.approx(2 / 20)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: m.answer_probability([0.1, float("nan")]), r"answer_loss\[1\] is missing"),
        (lambda: m.answer_probability([0.1, None]), r"answer_loss\[1\] is missing"),
        (lambda: m.answer_probability([-0.1]), r"answer_loss\[0\] is -0.1"),
        (lambda: m.answer_probability([float("inf")]), "finite"),
        (lambda: m.answer_probability([]), "at least one"),
        (lambda: m.answer_probability(["a"]), "array of numbers"),
        (lambda: m.normalised_probability([1.0, 2.0], [[1.0]]), "numbers of questions differ"),
        (lambda: m.truth_ratio([1.0], [[1.0, float("nan")]]), r"perturbed_loss\[0, 1\] is missing"),
        (lambda: m.truth_ratio([1.0], [1.0]), "shape"),
        (lambda: m.truth_ratio_known([-1.0]), "ratio"),
        (lambda: m.truth_ratio_known([float("nan")]), "missing"),
        (lambda: m.entailment_score([1], [0.5, 0.5]), "numbers of questions differ"),
        (lambda: m.forget_efficacy([1], [1], [1], [1], [2]), r"entailment\[0\] is 2"),
        (lambda: m.forget_efficacy([1], [1], [1], [1], [1, 1]), "entailment 2"),
        (lambda: m.mia_loss([0.5]), r"logprobs\[0\] is 0.5"),
        (lambda: m.mia_min_k_plus_plus([-1.0], [-1.0], [1.0, 1.0]), "numbers of questions differ"),
        (lambda: m.membership_auc([float("nan")], [1.0]), r"forget\[0\] is missing"),
        (lambda: m.extraction_strength([]), "at least one"),
        (lambda: m.exact_memorization([0.5]), "0 and 1"),
        (lambda: m.harmonic_mean([1.5]), "in \\[0, 1\\]"),
        (lambda: m.exact_memorization("abc"), "array of numbers"),
        (lambda: m.truth_ratio_unknown(["a"]), "array of numbers"),
        (lambda: m.priv_leak("a", 0.5), "auc_unlearned is 'a'"),
    ],
)
def test_what_is_missing_or_misaligned_is_an_error(call, said):
    with pytest.raises(InputError, match=said):
        call()
