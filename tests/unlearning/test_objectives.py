import dataclasses

import pytest

from leakbound.errors import InputError
from leakbound.unlearning import UnlearnConfig
from leakbound.unlearning.losses import grad_ascent, kl_retain, nll, npo
from leakbound.unlearning.objectives import OBJECTIVES, TERMS, find_objective
from leakbound.unlearning.trainer import Half, Weights


@pytest.mark.parametrize(
    ("name", "forget", "retain"),
    [
        ("grad_ascent", grad_ascent, None),
        ("grad_diff", grad_ascent, nll),
        ("npo", npo, None),
        ("npo_gd", npo, nll),
        ("npo_kl", npo, kl_retain),
        ("npo:kl", npo, kl_retain),
        ("ga:none", grad_ascent, None),
    ],
)
def test_methods_are_made_of_the_terms_of_their_papers(name, forget, retain):
    objective = find_objective(name)
    assert objective.forget.loss is forget
    assert (objective.retain.loss if objective.retain else None) is retain


def test_the_named_methods_are_the_pairs_of_their_terms():
    assert OBJECTIVES["npo_gd"] == find_objective("npo:gd")
    assert OBJECTIVES["grad_diff"] == find_objective("ga:gd")


@pytest.mark.parametrize("name", ["", "nop", "npo:", "npo:x", "none:gd", ":gd"])
def test_an_unknown_method_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=r"method is .*grad_diff.*npo_gd.* or a pair forget:retain of ga, npo"):
        find_objective(name)


def test_every_term_needs_only_what_a_forward_pass_has():
    have = set(vars(Half)) | {field.name for field in dataclasses.fields(Half)}
    for term in filter(None, TERMS.values()):
        assert set(term.needs) <= have


def test_every_setting_of_a_term_and_every_weight_is_a_setting_of_the_run():
    settings = {field.name for field in dataclasses.fields(UnlearnConfig)}
    weights = {field.name for field in dataclasses.fields(Weights)}
    assert weights <= settings
    for term in filter(None, TERMS.values()):
        assert set(term.settings) <= weights
