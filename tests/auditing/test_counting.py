"""An audit of counted draws: its folder, what it says, and what refuses it."""

import json
import math
from decimal import Decimal

import mpmath
import pytest
from interrupted import interrupt
from noting import PROMPTS
from tiny_models import tiny_model, word_tokenizer

from leakbound.auditing.second.tails import at_most_probability
from leakbound.auditing.steps import audit, sample
from leakbound.auditing.verifying import verify
from leakbound.bounds import proportion_bound, survival_bound
from leakbound.errors import IncompleteRunError, InputError, RunMismatchError
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.models.hf import model as model_module
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.runs.store import Run

BILLION = 10**9
FAKE = FakeModel(leak=3e-9, clean="I do not know it")


def asked(out=None, model=FAKE, **changes):
    settings = {"num_samples": BILLION, "engine": "counted", "scorer": "contains", "progress": False, **changes}
    return audit(model, PROMPTS[:2], out=out, **settings)


@pytest.mark.slow
def test_a_billion_draws_give_the_limits_of_their_counts(tmp_path):
    result = asked(tmp_path / "r")
    for p in result.prompts:
        assert p.num_samples == BILLION
        assert p.num_leaks < 40  # Poisson of mean 3: 1e-29
        assert p.leak == proportion_bound(p.num_leaks, BILLION, alpha=0.01, estimand=p.leak.estimand)
        assert p.leak.upper < 8e-8
    run = Run.open(tmp_path / "r")
    draws = [d for part in run.parts if part.sampled for d in run.read_draws(part)]
    assert sum(d.count for d in draws) == 2 * BILLION
    assert {d.places for d in draws} == {None}
    found = verify(tmp_path / "r")
    assert found.accepted, found.checks


def test_graded_scores_get_bounds_that_need_no_order(tmp_path):
    result = asked(tmp_path / "r", FakeModel(leak=0.3, clean="alpha I do not"), scorer="rouge_l", num_samples=1000)
    for p in result.prompts:
        assert all(b.method.endswith("no order known") for b in (p.mean, p.std, p.ed_bound))
        assert p.mean.lower <= p.mean.estimate <= p.mean.upper < p.mean.estimate + 0.1
    found = verify(tmp_path / "r")
    assert found.accepted, found.checks


@pytest.mark.slow
def test_other_engines_see_the_same_law(tmp_path):
    n = 20_000
    one, other = (
        asked(num_samples=n, model=FakeModel(leak=0.3)),
        asked(num_samples=n, model=FakeModel(leak=0.3), engine="iid"),
    )
    for p, q in zip(one.prompts, other.prompts, strict=True):
        assert abs(p.num_leaks - q.num_leaks) < 6.2 * math.sqrt(2 * n * 0.21)  # false alarm 6e-10
        assert p.num_leaks != q.num_leaks  # other randomness


def test_an_older_version_refuses_the_folder_and_so_does_a_wrong_label(tmp_path):
    run = sample(FAKE, PROMPTS, tmp_path / "r", num_samples=100, engine="counted")
    assert run.info["format"] == 4
    assert {p.kind for p in run.parts} == {"greedy", "counted"}
    plain = sample(FAKE, PROMPTS, tmp_path / "iid", num_samples=100)
    assert plain.info["format"] == 3
    for folder, changes in (
        (run.path, {"format": 2}),
        (plain.path, {"format": 4}),
        (run.path, {"engine": None, "format": 2}),
    ):
        info = {k: v for k, v in json.loads((folder / "run.json").read_text()).items() if k != "seal"}
        (folder / "run.json").write_text(json.dumps({**info, **changes}))
        with pytest.raises((RunMismatchError, IncompleteRunError)):
            Run.open(folder)
        (folder / "run.json").write_text(json.dumps(info))


def test_rows_that_claim_an_order_or_miss_a_draw_are_refused(tmp_path):
    run = sample(FAKE, PROMPTS[:1], tmp_path / "r", num_samples=3, engine="counted")
    part = run.parts[-1]
    for draws in ([Draw("p0", "x", 2, 0, "stop", 1)], [Draw("p0", "x", 3, 0, "stop", 1, None, (0, 1, 2))]):
        with pytest.raises(IncompleteRunError, match="no statement can be made"):
            run.write_draws(part, draws)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"until": "leak<=0.1"}, "until and width stop on independent draws"),
        ({"width": 0.1}, "until and width stop on independent draws"),
        ({"draws_per_shard": 10}, "counted draws are not cut"),
        ({"num_samples": 2**53 + 1}, "give at most"),
    ],
)
def test_what_needs_single_draws_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        asked(**changes)


def test_a_sampler_that_cannot_count_is_refused():
    class Plain:
        describe, sample = FAKE.describe, FAKE.sample

    with pytest.raises(InputError, match="Plain cannot count draws"):
        asked(model=Plain())


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3])
def test_what_is_killed_goes_on_to_the_same_bytes(tmp_path, monkeypatch, stop):
    prompts = tuple(Prompt(str(i), text, "c") for i, text in enumerate(["a b", "c", "d d a"]))
    monkeypatch.setattr(model_module, "SITTING", 1e-9)

    def begin(out, stop=None):
        box = HFModel(tiny_model(), word_tokenizer(), batch_rows=4)
        box._forward.budget.seconds = lambda rows, tokens: 1.0
        calls = interrupt(monkeypatch, box, "count", stop)
        sample(box, prompts, out, num_samples=10**6, params=SamplingParams(max_tokens=5), engine="counted")
        return len(calls)

    assert begin(tmp_path / "usual") > 4
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path / "run", stop)
    assert (tmp_path / "run" / "pieces").exists() == (stop > 1)
    begin(tmp_path / "run")

    def everything(path):
        return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}

    assert everything(tmp_path / "run") == everything(tmp_path / "usual")


@pytest.mark.parametrize("k", [0, 1, 7, 10**4, 10**8, BILLION // 2, BILLION - 3])
def test_clopper_pearson_at_a_billion_against_70_digits(k):
    """alpha is P(Bin(n, u) <= k) = I_(1-u)(n - k, k + 1): by mpmath for few leaks, by our sums for many."""
    upper = proportion_bound(k, BILLION, alpha=0.01).upper
    chance = at_most_probability(k, BILLION, upper)
    assert Decimal("0.01") * (1 - Decimal("1e-6")) < chance <= Decimal("0.01") * (1 + Decimal("1e-12"))
    if k < 10:
        with mpmath.workdps(70):
            p = mpmath.mpf(upper)
            exact = mpmath.fsum(mpmath.binomial(BILLION, i) * p**i * (1 - p) ** (BILLION - i) for i in range(k + 1))
            assert abs(exact / mpmath.mpf(str(chance)) - 1) < 1e-30


def test_long_sums_agree_with_short_ones(monkeypatch):
    from leakbound.auditing.second import tails

    for k, n, p in ((20_000, 50_000, 0.41), (12_000, 50_000, 0.2), (11_000, 10**6, 0.0112)):
        long = at_most_probability(k, n, p)
        monkeypatch.setattr(tails, "FEW_TERMS", 10**9)
        short = at_most_probability(k, n, p)
        monkeypatch.undo()
        assert 0 <= long / short - 1 < Decimal("1e-40")


@pytest.mark.slow
def test_a_band_of_a_billion_draws_holds_and_is_narrow():
    """Above the union bound of its parts at no rank: 1 - b_0 of no draw is that of Clopper and Pearson at eta."""
    band = survival_bound([0.0, 0.5], counts=[BILLION - 5, 5], alpha=0.01)
    assert band.upper[1] == 0 or band.upper[1] < 1e-7
    assert 5e-9 < band.upper[0] < 1e-7
