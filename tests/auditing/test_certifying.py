"""Certificates of tiny models, against their laws enumerated."""

import json
import subprocess
import sys

import numpy as np
import pytest
from enumerated import enumerate_law
from tiny_models import WORDS, tiny_model, word_tokenizer

from leakbound import report
from leakbound.auditing import certifying
from leakbound.auditing.certifying import certify
from leakbound.auditing.engines import choose_engine
from leakbound.errors import InputError, Interrupted, RunMismatchError
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.records import SamplingParams
from leakbound.results.certificate import Certification

PROMPTS = [
    {"id": "p", "text": "a b", "target": "c d"},
    {"id": "q", "text": "d c a b a", "target": "d", "aliases": ["d a", "c"]},
]
PARAMS = SamplingParams(max_tokens=4, temperature=0.8)


@pytest.fixture(scope="module")
def model():
    return HFModel(tiny_model(), word_tokenizer(), template="raw")


def words(tokens):
    return " ".join(WORDS[t] for t in tokens if t > 1)


def truths(model, prompt, params=PARAMS):
    """P(text contains the target or an alias), P(text begins with one), enumerated."""
    law = enumerate_law(model.model, model.tokenizer(prompt["text"])["input_ids"], params)
    secrets = (prompt["target"], *prompt.get("aliases", ()))
    leak = sum(p for t, p in law.items() if any(s in words(t) for s in secrets))
    spelled = [tuple(WORDS.index(w) for w in s.split()) for s in secrets]
    begins = sum(p for t, p in law.items() if any(t[: len(s)] == s for s in spelled))
    return leak, begins


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "without-replacement", "iid"])
def test_every_statement_is_true_and_alpha_is_the_audits(model, engine):
    result = certify(
        model, PROMPTS, scorer="contains", threshold=1.0, num_generations=60, params=PARAMS, engine=engine,
        proposal=HFModel(tiny_model(seed=5), word_tokenizer(), template="raw"), progress=False,
    )  # fmt: skip
    worst = 0.0
    for certificate, prompt in zip(result.prompts, PROMPTS, strict=True):
        leak, begins = truths(model, prompt)
        worst = max(worst, leak)
        assert certificate.limits.lower <= leak <= certificate.limits.upper
        assert leak <= certificate.leak.upper <= certificate.limits.upper
        assert certificate.still_leaks.lower <= leak
        assert certificate.verbatim.lower == pytest.approx(begins, rel=1e-4)
        begins_target = truths(model, {**prompt, "aliases": []})[1]  # too short for an edit: near is verbatim
        assert certificate.near_verbatim.lower == pytest.approx(begins_target, rel=1e-4)
        assert 0 < certificate.seen_mass <= 1
        assert certificate.leak.alpha == 0.01
        assert certificate.num_generations == 60
        if engine != "auto":
            assert certificate.engine == engine
    assert worst <= result.worst_prompt.upper


def test_everything_seen_is_certain(model):
    params = SamplingParams(max_tokens=3, top_k=2)
    (certificate,) = certify(
        model,
        PROMPTS[:1],
        scorer="contains",
        threshold=1.0,
        params=params,
        engine="without-replacement",
        progress=False,
    ).prompts
    leak, _ = truths(model, PROMPTS[0], params)
    assert certificate.seen_mass == pytest.approx(1, abs=1e-6)
    assert certificate.leak.upper == pytest.approx(leak, abs=1e-6)
    assert certificate.limits.lower == pytest.approx(leak, abs=1e-6)


def test_a_proposal_that_knows_the_secret_proves_a_leak_too_rare_to_see():
    """The model gives c first with probability e-12 or so; the proposal gives it often."""
    import torch

    model, knows = tiny_model(), tiny_model()
    with torch.no_grad():
        for m, by in ((model, -14.0), (knows, 3.0)):
            head = m.get_output_embeddings()
            bias = torch.zeros(len(WORDS))
            bias[4] = by
            m.lm_head = torch.nn.Linear(head.in_features, head.out_features, bias=True)
            m.lm_head.weight.copy_(head.weight)
            m.lm_head.bias.copy_(bias)
    prompt = {"id": "p", "text": "a b", "target": "c"}
    params = SamplingParams(max_tokens=3)
    box = HFModel(model, word_tokenizer(), template="raw")
    (found,) = certify(
        box, [prompt], scorer="contains", threshold=1.0, num_generations=400, params=params, engine="iid",
        proposal=HFModel(knows, word_tokenizer(), template="raw"), progress=False,
    ).prompts  # fmt: skip
    leak, _ = truths(box, prompt, params)
    assert leak < 1e-4
    assert found.leak.estimate == 0
    assert 0.1 * leak < found.still_leaks.lower < leak


def test_the_choice_of_engine():
    assert choose_engine([0.5, 0.25, 0.25], 100, 0.01) == "without-replacement"
    assert choose_engine([1e-9] * 32, 100, 0.01) == "iid"


def test_an_interrupted_certification_goes_on_and_ends_with_the_same_bytes(model, tmp_path, monkeypatch):
    many = [{"id": f"p{i}", "text": "a b" if i % 2 else "d c", "target": "c"} for i in range(20)]
    args = {"scorer": "contains", "num_generations": 10, "params": PARAMS, "progress": False}
    whole = certify(model, many, out=tmp_path / "whole", **args)
    real, calls = HFModel.distinct, []

    def failing(self, *rest):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(HFModel, "distinct", failing)
        with pytest.raises(KeyboardInterrupt):
            certify(model, many, out=tmp_path / "cut", **{**args, "engine": "without-replacement"})
    assert len(list((tmp_path / "cut" / "facts").iterdir())) == 1
    certify(model, many, out=tmp_path / "cut", **{**args, "engine": "without-replacement"})
    certify(model, many, out=tmp_path / "other", **{**args, "engine": "without-replacement"})
    for name in ("facts/00000.json", "facts/00001.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert Certification.load(tmp_path / "whole") == whole
    assert Certification.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    with pytest.raises(RunMismatchError, match="seed"):
        certify(model, many, out=tmp_path / "whole", seed=1, **args)


def test_a_certification_that_takes_long_keeps_some_prompts_at_a_time(model, tmp_path, monkeypatch):
    many = [{"id": f"p{i}", "text": "a b" if i % 2 else "d c", "target": "c"} for i in range(7)]
    args = {"scorer": "contains", "num_generations": 10, "params": PARAMS, "engine": "without-replacement"}
    monkeypatch.setattr(certifying, "SEARCHED", 2 * 10 * 4)
    certify(model, many, out=tmp_path / "whole", **args)
    real, calls = HFModel.distinct, []

    def failing(self, prompts, *rest):
        calls.append(len(prompts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, prompts, *rest)

    monkeypatch.setattr(HFModel, "distinct", failing)
    with pytest.raises(Interrupted, match=r"4 of 7 prompts are kept in .*cut"):
        certify(model, many, out=tmp_path / "cut", **args)
    calls.append(0)
    certify(model, many, out=tmp_path / "cut", **args)
    assert calls == [2, 2, 2, 0, 2, 1]
    names = [file.name for file in (tmp_path / "cut" / "facts").iterdir()]
    assert names == ["00000.json"]
    for name in ("facts/00000.json", "certificate.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_table_and_sentence(model, capsys):
    from rich.console import Console

    result = certify(model, PROMPTS, scorer="contains", num_generations=10, params=PARAMS, progress=False)
    Console(width=80).print(report.to_terminal(report.document_of(result)))
    shown = capsys.readouterr().out
    assert "target ≥" in shown
    assert "For every prompt" in shown
    assert "…" not in shown
    assert "nothing can be said yet of P(h >= 0.5)" in str(result)


def test_bad_input_is_named(model):
    for text, change in [
        ("engine is 'best'", {"engine": "best"}),
        ("num_generations is 0", {"num_generations": 0}),
        ("temperature is 0", {"params": SamplingParams(temperature=0)}),
    ]:
        with pytest.raises(InputError, match=text):
            certify(model, PROMPTS, progress=False, **change)
    with pytest.raises(InputError, match="FakeModel, which does not show its probabilities"):
        certify(FakeModel(), PROMPTS, progress=False)


def test_importing_it_loads_no_torch():
    code = "import leakbound.auditing.certifying, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.slow
def test_false_statements_over_many_seeds(model):
    """The engine chosen by pilots that are not judged: misses of the upper bound at alpha = 0.2 over 150 prompts."""
    many = [{"id": str(i), "text": "a b", "target": "c d"} for i in range(150)]
    params = SamplingParams(max_tokens=4)
    leak, _ = truths(model, PROMPTS[0], params)
    result = certify(
        model, many, scorer="contains", threshold=1.0, num_generations=12, alpha=0.2, params=params, progress=False
    )
    misses = sum(c.leak.upper < leak for c in result.prompts)
    assert misses <= 0.2 * 150 + 5.2 * np.sqrt(150 * 0.16)
