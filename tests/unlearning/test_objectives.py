import dataclasses
import inspect

import pytest

from leakbound.errors import InputError
from leakbound.unlearning import UnlearnConfig
from leakbound.unlearning.losses import grad_ascent, kl_retain, nll, npo
from leakbound.unlearning.objectives import METHODS, TERMS, Term, find_objective
from leakbound.unlearning.trainer import Weights

FORGET, RETAIN = TERMS["forget"], TERMS["retain"]


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
    assert METHODS["npo_gd"] == find_objective("npo:gd")
    assert METHODS["grad_diff"] == find_objective("ga:gd")


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("GA", "grad_ascent"), ("GradDiff", "grad_diff"), ("GA+GD", "grad_diff"), ("GA+KL", "grad_ascent_kl"),
        ("NPO+GD", "npo_gd"), ("npo-kl", "npo_kl"), ("DPO+GD", "dpo_gd"), ("DPO+KL", "dpo_kl"), ("IDK+GD", "idk_gd"),
        ("IDK+KL", "idk_kl"), ("IDK+AP", "idk_ap"), ("ME+GD", "me_gd"), ("SimNPO", "simnpo"),
        ("SimNPO+GD", "simnpo_gd"), ("LLMU", "llmu"), ("RMU", "rmu"), ("UNDIAL", "undial"), ("WGA", "wga"),
        ("SatImp", "satimp"), ("CE-U", "ce_u"), ("JensUn", "jensun"), ("PMC", "pmc"), ("Grad Diff", "grad_diff"),
    ],
)  # fmt: skip
def test_published_spellings_are_understood(published, name):
    assert find_objective(published) == METHODS[name]
    assert find_objective(published.upper()) == METHODS[name]


def test_any_pair_of_terms_can_be_joined():
    for forget, term in FORGET.items():
        for retain, other in RETAIN.items():
            assert find_objective(f"{forget}:{retain}") == find_objective(f"{forget}+{retain}")
            assert (find_objective(f"{forget}:{retain}").forget, other) == (term, RETAIN[retain])


@pytest.mark.parametrize("name", ["", "nop", "npo:", "npo:x", "none:gd", ":gd", "gd:npo"])
def test_an_unknown_method_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=r"method is .*grad_diff.*npo_gd.* or a pair forget:retain of ga, npo"):
        find_objective(name)


@pytest.mark.parametrize("need", ["logprobs", "refusal.logprobs", "refused.logps"])
def test_a_term_needs_only_what_a_forward_pass_has(need):
    with pytest.raises(InputError, match=rf"needs is \['{need}'\]: a forward pass has .*ref_logps"):
        Term(nll, ("logps", need))


def test_every_setting_of_a_term_and_every_weight_is_a_setting_of_the_run():
    settings = {field.name for field in dataclasses.fields(UnlearnConfig)}
    weights = {field.name for field in dataclasses.fields(Weights)} - {"settings"}
    ours = {name for term in (*FORGET.values(), *RETAIN.values()) for name in term.settings}
    assert weights | ours <= settings


def test_a_setting_that_is_given_goes_before_the_published_one():
    files = {"model": "m", "forget": "f.jsonl", "retain": "r.jsonl", "out": "o"}
    simnpo = FORGET["simnpo"]
    assert Weights.of(UnlearnConfig(**files, method="simnpo:gd")).keywords(simnpo) == {"beta": 2.5, "gamma": 0.0}
    assert Weights.of(UnlearnConfig(**files, beta=3.0)).keywords(simnpo) == {"beta": 3.0, "gamma": 0.0}
    assert Weights.of(UnlearnConfig(**files, rmu_scale=2.0)).keywords(FORGET["rmu"]) == {"scale": 2.0}


def test_every_term_can_be_called_with_what_it_needs_and_its_settings():
    for term in (*FORGET.values(), *RETAIN.values()):
        inspect.signature(term.loss).bind(*term.needs, **Weights().keywords(term))
