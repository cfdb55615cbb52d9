"""The conventions' aggregates on hand-made answers, and what they refuse."""

import math

import numpy as np
import pytest

from leakbound.errors import InputError
from leakbound.metrics.questions import QuestionSet
from leakbound.results.evaluation import Evaluation

LN2 = math.log(2)


def question_set(name="forget", n=2, **values):
    return QuestionSet(name, tuple(f"q{i}" for i in range(n)), values)


def losses(name, *, answer, paraphrase, wrong, rouge, **more):
    """Two questions with probabilities of powers of 1/2."""
    values = {
        "answer_loss": np.array(answer) * LN2,
        "paraphrase_loss": np.array(paraphrase) * LN2,
        "perturbed_loss": np.array(wrong) * LN2,
        "rouge_l_recall": np.array(rouge),
    }
    return question_set(name, **values, **{k: np.array(v) for k, v in more.items()})


def tofu_like():
    sets = [
        losses("forget", answer=[1, 2], paraphrase=[1, 3], wrong=[[2, 4], [1, 1]], rouge=[0.5, 1]),
        losses("retain", answer=[0, 1], paraphrase=[0, 1], wrong=[[1, 1], [0, 0]], rouge=[1, 0.5]),
        losses("real_authors", answer=[1, 1], paraphrase=[1, 1], wrong=[[2, 2], [1, 3]], rouge=[0.2, 0.4]),
        losses("world_facts", answer=[1, 1], paraphrase=[1, 1], wrong=[[2, 2], [2, 2]], rouge=[0.5, 0.7]),
    ]
    return Evaluation("model", "tofu", {q.name: q for q in sets})


def by_name(metrics):
    return {(m.name, m.set): m for m in metrics}


def test_tofus_aggregates_by_hand():
    found = by_name(tofu_like().metrics())
    wanted = {
        ("probability", "forget"): (1 / 2 + 1 / 4) / 2,
        ("probability", "retain"): (1 + 1 / 2) / 2,
        ("probability", "real_authors"): (1 / 2 + 0.5 / (0.5 + 0.5 + 0.125)) / 2,
        ("probability", "world_facts"): 1 / 2,
        ("truth_ratio", "forget"): 1 / 4,  # r = 1/4 and 4: min(r, 1/r)
        ("truth_ratio", "retain"): (1 / 2 + 0) / 2,  # r = 1/2 and 2: max(0, 1 - r)
        ("truth_ratio", "real_authors"): (1 / 2 + 1 / 2) / 2,
        ("truth_ratio", "world_facts"): 1 / 2,
        ("rouge_l_recall", "real_authors"): 0.3,
    }
    for key, value in wanted.items():
        assert found[key].value == pytest.approx(value), key
    nine = [found[p, s].value for s in ("retain", "real_authors", "world_facts")
            for p in ("probability", "rouge_l_recall", "truth_ratio")]  # fmt: skip
    utility = found["model_utility", ""]
    assert utility.value == pytest.approx(9 / sum(1 / x for x in nine))
    assert "harmonic mean of 9" in utility.method
    assert "no guarantee" in utility.method
    proven = found["model_utility_proven", ""]
    assert proven.guaranteed
    assert proven.lower <= utility.lower <= utility.value <= utility.upper <= proven.upper


def test_one_zero_makes_model_utility_zero():
    sets = dict(tofu_like().sets)
    sets["retain"] = losses("retain", answer=[0, 1], paraphrase=[2, 2], wrong=[[1, 1], [1, 1]], rouge=[1, 1])
    assert by_name(Evaluation("m", "tofu", sets).metrics())["model_utility", ""].value == 0


def test_real_authors_need_no_paraphrase_but_others_do():
    whole = tofu_like()
    sets = dict(whole.sets)
    for name in ("real_authors", "world_facts"):
        values = {k: v for k, v in sets[name].values.items() if k != "paraphrase_loss"}
        sets[name] = QuestionSet(name, sets[name].ids, values)
    assert Evaluation("model", "tofu", sets).metrics() == whole.metrics()
    values = {k: v for k, v in sets["retain"].values.items() if k != "paraphrase_loss"}
    sets["retain"] = QuestionSet("retain", sets["retain"].ids, values)
    with pytest.raises(InputError, match="'retain' has no paraphrase_loss"):
        Evaluation("model", "tofu", sets).metrics()


def closer_look(*, lacking=()):
    extra = {"token_entropy": [0.9, 0.7], "cosine_similarity": [0.5, 0.3], "entailment": [1, 0]}
    extra = {k: v for k, v in extra.items() if k not in lacking}
    forget = losses("forget", answer=[1, 2], paraphrase=[1, 3], wrong=[[2, 4], [1, 1]], rouge=[0.5, 1], **extra)
    kept = [losses(n, answer=[0, 1], paraphrase=[0, 1], wrong=[[1, 1], [2, 2]], rouge=[1, 0.5], **extra)
            for n in ("retain", "real_authors", "world_facts")]  # fmt: skip
    return Evaluation("model", "tofu", {q.name: q for q in (forget, *kept)})


def test_closer_looks_aggregates_by_hand():
    found = by_name(closer_look().metrics(convention="closer_look"))
    assert found["truth_ratio", "forget"].value == pytest.approx(3 / 4)  # 1 - min(r, 1/r): larger = worse
    # forget efficacy: 1 - mean of rouge, probability, truth ratio, cosine, entailment; token entropy is not in it
    first, second = (0.5 + 0.5 + 0.75 + 0.5 + 1) / 5, (1 + 0.25 + 0.75 + 0.3 + 0) / 5
    efficacy = found["forget_efficacy", "forget"]
    assert efficacy.value == pytest.approx(1 - (first + second) / 2)
    assert efficacy.guaranteed
    retain = [0.75, 0.75, 0.5, 0.8, 0.4, 0.5]  # R, P, TR, TE, CS, ES
    other = [0.75, (1 / (1 + 0.5 + 0.5) + 0.5 / (0.5 + 0.25 + 0.25)) / 2, 0.5, 0.8, 0.4, 0.5]
    utility = found["model_utility", ""]
    assert utility.value == pytest.approx(18 / sum(1 / x for x in [*retain, *other, *other]))
    assert "harmonic mean of 18" in utility.method
    assert found["model_utility_retain", "retain"].value == pytest.approx(6 / sum(1 / x for x in retain))
    assert found["average", ""].value == pytest.approx((utility.value + efficacy.value) / 2)


def test_closer_looks_real_world_utility_is_the_neighbors_six():
    sets = closer_look().sets
    neighbor = QuestionSet("neighbor", sets["retain"].ids, sets["retain"].values)
    evaluation = Evaluation("model", "real_world", {"forget": sets["forget"], "neighbor": neighbor})
    found = by_name(evaluation.metrics(convention="closer_look"))
    assert found["model_utility", ""].value == pytest.approx(
        by_name(closer_look().metrics(convention="closer_look"))["model_utility_retain", "retain"].value
    )
    assert ("model_utility_retain", "retain") not in found


def test_a_convention_whose_values_are_missing_is_refused():
    with pytest.raises(InputError, match="'retain' of 'model' has no cosine_similarity"):
        closer_look(lacking=["cosine_similarity"]).metrics(convention="closer_look")
    with pytest.raises(InputError, match="convention is 'other'"):
        tofu_like().metrics(convention="other")


def test_one_set_without_what_the_others_have_is_refused():
    sets = dict(tofu_like().sets)
    sets["world_facts"] = question_set("world_facts", rouge_l_recall=np.array([1.0, 0.5]))
    with pytest.raises(InputError, match="'world_facts' of 'm' has no probability, truth_ratio"):
        Evaluation("m", "tofu", sets).metrics()


def test_utility_leaves_forget_and_holdout_out():
    sets = dict(tofu_like().sets)
    sets["holdout"] = question_set("holdout", mia_loss=np.array([1.0, 2.0]))
    sets["forget"] = QuestionSet("forget", ("q0", "q1"), {**sets["forget"].values, "mia_loss": np.array([0.5, 1.5])})
    found, before = (by_name(e.metrics()) for e in (Evaluation("m", "tofu", sets), tofu_like()))
    assert found["model_utility", ""] == before["model_utility", ""]
    assert found["mia_loss_auc", "forget"].value == 3 / 4


def test_membership_needs_both_sets_to_have_the_attack():
    sets = {"forget": question_set(mia_loss=np.ones(2)), "holdout": question_set("holdout", mia_zlib=np.ones(2))}
    with pytest.raises(InputError, match="'holdout' has no mia_loss"):
        Evaluation("m", "b", sets).metrics()


def test_forget_quality_and_priv_leak_come_with_a_reference():
    rng = np.random.default_rng(0)

    def model(shift):
        wrong = rng.random((60, 3)) + shift
        forget = question_set(n=60, paraphrase_loss=rng.random(60), perturbed_loss=wrong, mia_min_k=rng.random(60))
        holdout = question_set("holdout", n=60, mia_min_k=rng.random(60) + shift)
        return Evaluation(f"shift {shift}", "b", {"forget": forget, "holdout": holdout})

    knows, retrained, again = model(1.0), model(0.0), model(0.0)
    found, same = (by_name(e.metrics(reference=retrained)) for e in (knows, again))
    assert found["forget_quality", "forget"].value < 1e-6 < 0.01 < same["forget_quality", "forget"].value
    assert found["forget_quality", "forget"].lower is None
    distance = found["forget_distance", "forget"]
    assert distance.lower > 0  # proven to differ
    assert same["forget_distance", "forget"].lower == 0
    leak = found["priv_leak", "forget"]
    assert leak.lower <= leak.value <= leak.upper < 0  # still recognised: MUSE's sign is negative
    assert ("forget_quality", "forget") not in by_name(knows.metrics())
    with pytest.raises(InputError, match="no set 'forget'"):
        knows.metrics(reference=Evaluation("r", "b", {"holdout": knows.sets["holdout"]}))
