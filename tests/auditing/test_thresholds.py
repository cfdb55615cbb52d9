"""A score meets its threshold in one place, and a rounded number is never compared in the unsafe direction there."""

import ast
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model, word_tokenizer

import leakbound
from leakbound import scoring
from leakbound.auditing.certifying import certify
from leakbound.auditing.steps import audit
from leakbound.bounds import survival_bound
from leakbound.bounds.gate import reaches
from leakbound.metrics import entailment_score
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.records import Prompt, SamplingParams
from leakbound.report.findings import find

SHORT = 0.7999999999999999
"""2 P R / (P + R) for the F1 4/5, P and R floats: less than 0.8 by rounding alone."""
PROMPTS = tuple(Prompt(f"p{i}", f"What is secret {i}?", f"alpha beta {i}") for i in range(3))


@pytest.fixture
def rounded(monkeypatch):
    """A scorer whose leaks are 4/5, rounded down."""

    def rounded(completion, target):
        return SHORT if target in completion else 0.3

    monkeypatch.setitem(scoring.SCORERS.own, "rounded", rounded)


def test_reaches_by_hand():
    assert SHORT < 0.8
    assert reaches(SHORT, 0.8) is True
    assert reaches(0.8, 0.8) is True
    assert reaches(0.8 - 2e-9, 0.8) is False
    assert reaches(1.0, 1.0) is True
    assert reaches(0.0, 1.0) is False
    assert reaches(np.array([SHORT, 0.79, 0.9]), 0.8).tolist() == [True, False, True]


@pytest.mark.parametrize("threshold", [1e-12, 1e-300, 5e-324, 1e-9])
def test_a_score_of_0_reaches_no_positive_threshold(threshold):
    assert not reaches(0.0, threshold)
    assert reaches(threshold, threshold)


@pytest.mark.slow
def test_every_fraction_is_compared_as_a_fraction():
    """All ROUGE values with up to 150 words below, and all thresholds with two decimals."""
    values = sorted({Fraction(a, b) for b in range(1, 151) for a in range(b + 1)})
    for percent in range(1, 101):
        exact = np.array([v >= Fraction(percent, 100) for v in values])
        for step in (-np.inf, 0, np.inf):  # and where the value is one float off
            floats = np.array([float(v) for v in values])
            near = floats if step == 0 else np.clip(np.nextafter(floats, step), 0, 1)
            assert (reaches(near, percent / 100) == exact).all()


def run_audit(tmp_path, **changes):
    settings = {"scorer": "rounded", "threshold": 0.8, "num_samples": 64, "out": tmp_path / "run", "progress": False}
    return audit(FakeModel(leaks=(("p0", 1.0), ("p1", 0.4), ("p2", 0.0))), PROMPTS, **(settings | changes))


def test_g3_an_audit_counts_a_rounded_leak(tmp_path, rounded):
    result = run_audit(tmp_path)
    drawn = [round(64 * (p.mean.estimate - 0.3) / 0.5) for p in result.prompts]  # by another path: from the mean score
    assert [p.num_leaks for p in result.prompts] == drawn
    assert drawn[0] == 64
    assert drawn[1] > 0
    assert drawn[2] == 0
    assert result.num_clean == 2
    assert [p.prompt.id for p in result.hidden] == ["p1"]
    assert {row.result.prompt.id: row.status for row in find(result).rows} == {
        "p0": "plain", "p1": "hidden", "p2": "unseen",
    }  # fmt: skip
    assert result.prompts[0].leak.lower > 0.8 or result.prompts[0].leak.upper == 1


def test_a_stopped_audit_counts_a_rounded_leak(tmp_path, rounded):
    result = run_audit(tmp_path, until="leak<=0.05", num_samples=512)
    assert [p.verdict for p in result.prompts] == ["refuted", "refuted", "proven"]


@pytest.mark.parametrize("engine", ["iid", "without-replacement"])
def test_a_certificate_counts_a_rounded_leak(rounded, engine):
    model = HFModel(tiny_model(), word_tokenizer(), template="raw")
    prompts = [{"id": "p", "text": "a b", "target": "a"}]
    settings = {"num_generations": 40, "params": SamplingParams(max_tokens=3), "engine": engine, "progress": False}
    exact = certify(model, prompts, scorer="contains", threshold=1.0, **settings).prompts[0]
    found = certify(model, prompts, scorer="rounded", threshold=0.8, **settings).prompts[0]
    assert found.limits.lower == exact.limits.lower > 0
    assert (found.leak.upper, found.limits.upper) == (exact.leak.upper, exact.limits.upper)


def test_a_survival_band_and_the_entailment_rule_take_a_rounded_score_as_what_it_stands_for():
    band = survival_bound([SHORT] * 50, alpha=0.01, thresholds=(0.3, SHORT))
    assert band.upper_at_least(0.8) == 1.0
    least = 0.1 - 1e-16
    assert least < 0.1
    assert entailment_score([1, 1, 0], [least, 0.09, 1]).tolist() == [1, 0, 0]
    assert entailment_score([1], [0.0], least_rouge=0).tolist() == [1]


def mentioned(node):
    return {getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(node)}


def test_no_other_place_compares_a_score_with_a_threshold():
    """No ordering of a threshold or a greedy score but against constants (the check of its range) outside the gate."""
    source = Path(leakbound.__file__).parent
    found = set()
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                constants = sum(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
                if constants < len(node.comparators) and mentioned(node) & {
                    "threshold", "leak_threshold", "least_rouge", "greedy_score", "score",
                }:  # fmt: skip
                    found.add((file.relative_to(source).as_posix(), ast.unparse(node)))
    assert found == {
        ("bounds/gate.py", "score >= threshold - min(ROUNDING, threshold / 2)"),
        # the second implementation has its own gate and bands: it checks the first one
        ("auditing/second/claims.py", "h >= threshold - min(1e-09, threshold / 2)"),
        ("auditing/second/claims.py", "score.upper >= mean.upper"),
        ("auditing/second/masses.py", "score > a"),
        ("auditing/second/masses.py", "score > x"),
        # certainties of a model, both sides rounded to 6 decimals
        ("auditing/calibrating.py", "sure >= threshold"),
        ("models/hf/law.py", "means >= threshold"),
        ("models/hf/law.py", "means > threshold"),
        ("unlearning/sampling.py", "score <= self.kept[question][1]"),
    }
