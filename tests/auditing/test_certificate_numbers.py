"""Every number of a certificate, made again from a law that is written down here; and what its table says."""

import io
import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import slow_path as slow
from rich.console import Console

from leakbound import report
from leakbound.auditing.certifying import NUM_WORST, _judge, certify
from leakbound.auditing.drawing import Statement
from leakbound.auditing.engines import choose_engine
from leakbound.auditing.verifying import verify
from leakbound.bounds.certificates import importance_lower_bound, without_replacement_bound
from leakbound.errors import IncompleteRunError, InputError, ModelError
from leakbound.models.base import Generation
from leakbound.models.randomness import uniforms
from leakbound.records import Draw, Prompt, Shard
from leakbound.report import certificates
from leakbound.results.certificate import Certification
from leakbound.runs.files import write_json
from leakbound.runs.store import Run

ALPHA = 0.01
WORDS = ("end", "no", "the", "code", "is", "4711", "zero", "one", "two", "maybe", "never", "yes")
LAW = {
    "p": {"no": 0.5, "never": 0.3, "the code is 4711": 0.1, "maybe": 0.06, "4711 yes": 0.03, "code 4711 is one": 0.01},
    "q": {"zero": 0.9999, "one two": 0.0001},
}
"""The completions of each prompt with their probabilities."""
QUESTIONS = [
    {"id": "p", "text": "What is the code?", "target": "4711", "aliases": ["code 4711", "4711 yes"]},
    {"id": "q", "text": "And the other one?", "target": "one"},
]


def tokens(text):
    return (*(WORDS.index(w) if w in WORDS else 20 + int(w) for w in text.split()), 0)


def generation(text, p, count=1):
    return Generation(tokens(text), text, "stop", len(text.split()), math.log(p), count)


@dataclass
class Box:
    """A white box with a law of a few completions; it notes what it was asked."""

    law: dict = field(default_factory=lambda: LAW)
    about: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    edits: list = field(default_factory=list)
    near: dict = field(default_factory=dict)

    def describe(self):
        return {"model": "box", "checksum": "0", "end_tokens": [0], **self.about}

    def sample(self, shard, params):
        return [Draw(p.id, g.text, g.count, 0, "stop", 1) for p, gs in self._both(shard, params) for g in gs]

    def _both(self, shard, params):
        return zip(shard.prompts, self.generations(shard, params), strict=True)

    def generations(self, shard, params):
        self.asked.append((shard.first, shard.num_samples, [p.id for p in shard.prompts]))
        found = []
        for prompt in shard.prompts:
            names, p = zip(*self.law[prompt.id].items(), strict=True)
            u = uniforms(shard.seed, prompt.id, shard.first, 0, shard.num_samples)
            counts = np.bincount(np.searchsorted(np.cumsum(p)[:-1], u), minlength=len(p))
            found.append([generation(t, x, int(c)) for t, x, c in zip(names, p, counts, strict=True) if c])
        return found

    def distinct(self, prompts, most, params, seed):
        self.asked.append(("distinct", most, [p.id for p in prompts]))
        return [[generation(t, p) for t, p in self.law[x.id].items()][:most] for x in prompts]

    def target_tokens(self, prompt, text):
        return tokens(text)[:-1]

    def logprobs(self, prompts, sequences, params):
        def mass(prompt, sequence):
            return sum(p for t, p in self.law[prompt.id].items() if tokens(t)[: len(sequence)] == tuple(sequence))

        return np.log([max(mass(p, s), 1e-300) for p, s in zip(prompts, sequences, strict=True)])

    def near_verbatim(self, prompts, targets, distances, params, width=32):
        self.edits += distances
        return [[generation("no", x) for x in self.near.get(p.id, ())] for p in prompts]


def run(box, **settings):
    given = {"scorer": "contains", "num_generations": 4, "alpha": ALPHA, "progress": False, "out": None}
    return certify(box, QUESTIONS, **{**given, **settings})


def test_without_replacement_everything_follows_from_the_masses():
    box = Box()
    found = run(box, engine="without-replacement")
    p, q = found.prompts
    assert [(c.num_generations, c.num_distinct, c.engine) for c in found.prompts] == [
        (4, 4, "without-replacement"), (2, 2, "without-replacement"),
    ]  # fmt: skip
    assert p.seen_mass == pytest.approx(0.96)
    assert p.limits.lower == pytest.approx(0.1)
    assert p.limits.upper == pytest.approx(0.1 + 0.04)
    process = without_replacement_bound([0.5, 0.3, 0.1, 0.06], [0, 0, 1, 0], alpha=ALPHA).upper
    assert p.leak.upper == pytest.approx(min(process, p.limits.upper), rel=1e-12)
    assert p.mean.upper == pytest.approx(process, rel=1e-12)
    assert (q.limits.lower, q.limits.upper) == pytest.approx((1e-4, 1e-4), abs=1e-8)
    assert q.leak.upper == pytest.approx(1e-4, abs=1e-8)
    assert found.worst_prompt.upper == p.leak.upper
    assert (found.worst_prompt.n, found.worst_prompt.unit, found.worst_prompt.alpha) == (6, "generations", ALPHA)
    assert ("distinct", 4, ["p", "q"]) in box.asked
    assert p.leak.estimand == p.limits.estimand == "P(h >= 0.5)"
    assert all(b.alpha == ALPHA for b in (p.leak, p.mean, p.limits, p.verbatim, p.near_verbatim))
    assert p.still_leaks is None


def test_masses_rounded_above_one_are_one():
    above = {"p": {"no": 1 + 1e-7}, "q": {"zero": 0.6, "one two": 0.4 + 1e-7}}
    for certificate in run(Box(law=above), engine="without-replacement").prompts:
        assert certificate.seen_mass == 1.0
        assert all(c.probability <= 1 for c in certificate.worst)


def test_independent_draws_are_counted():
    box = Box()
    found = run(box, engine="iid", num_generations=200, seed=3)
    (drawn,) = box.generations(_shard("p", 0, 200, 3), None)
    leaks = sum(g.count for g in drawn if "4711" in g.text)
    certificate = found.prompts[0]
    assert 0 < leaks < 200
    mass = sum(math.exp(g.logprob) for g in drawn)
    hit = sum(math.exp(g.logprob) for g in drawn if "4711" in g.text)
    assert certificate.seen_mass == pytest.approx(mass)
    assert certificate.leak.upper == pytest.approx(min(slow.upper(leaks, 200, ALPHA), hit + 1 - mass))
    assert (certificate.num_generations, certificate.num_distinct) == (200, len(drawn))
    assert certificate.limits.lower == pytest.approx(hit)
    assert certificate.mean.upper == certificate.leak.upper  # contains gives 0 and 1 only
    few = run(Box(), engine="iid", num_generations=3, seed=3).prompts[1]  # 0 of 3: the certain limits are smaller
    assert few.leak.upper == few.limits.upper
    assert few.leak.upper < slow.upper(0, 3, ALPHA)
    graded = run(Box(), engine="iid", num_generations=3, seed=3, scorer="rouge_l", threshold=0.5).prompts[1]
    assert graded.leak.upper == graded.mean.upper == graded.limits.upper == pytest.approx(1e-4, rel=1e-5)  # it was 0.82


def _shard(name, first, n, seed):
    return Shard((Prompt(name, "x", "y"),), first, n, seed)


def test_the_engine_is_chosen_by_draws_that_are_not_judged():
    """Draws -32 to -1 are the pilot, 0 to n - 1 are judged; importance draws are n to 2n - 1 and 2n to 3n - 1."""
    box, other = Box(), Box(law=LAW)
    found = run(box, num_generations=50, seed=2, proposal=other)
    assert box.asked[0] == (-32, 32, ["p", "q"])
    pilots = box.generations(_shard("p", -32, 32, 2), None)[0]
    logps = [g.logprob for g in pilots for _ in range(g.count)]
    assert found.prompts[0].entropy == pytest.approx(-np.mean(logps))
    other_pilots = box.generations(_shard("q", -32, 32, 2), None)[0]
    assert found.prompts[1].entropy == pytest.approx(
        -np.mean([g.logprob for g in other_pilots for _ in range(g.count)])
    )
    assert found.prompts[1].entropy < 0.1
    wanted = choose_engine(np.exp(logps).tolist(), 50, ALPHA)
    assert found.prompts[0].engine == wanted
    own = int((uniforms(2, "p", -1, 0, 50) < 0.5).sum())
    assert 0 < own < 50
    assert (50, own, ["p"]) in box.asked
    assert (100, 50 - own, ["p"]) in other.asked
    spans = [(first, first + n) for first, n, _ in box.asked if first != "distinct" and first >= 0]
    assert all(end <= 100 for _, end in spans)


def test_the_two_engines_may_stand_side_by_side():
    names = {str(i): 1 / 2000 for i in range(2000)}
    wide = {"p": names, "q": LAW["q"]}
    found = run(Box(law=wide), num_generations=40)
    assert [c.engine for c in found.prompts] == ["iid", "without-replacement"]
    assert found.worst_prompt.method.endswith("; certificates")


def test_the_exact_probability_of_a_beginning_counts_no_answer_twice():
    """An alias that begins with the target adds nothing; one that does not, adds its own."""
    found = run(Box()).prompts
    assert found[0].verbatim.lower == pytest.approx(0.03 + 0.01, rel=1e-8)  # "4711 ...", "code 4711 ..."
    assert found[1].verbatim.lower == pytest.approx(1e-4, rel=1e-8)
    assert found[0].verbatim.lower < 0.04
    assert (found[0].verbatim.side, found[0].verbatim.n, found[0].verbatim.unit) == ("lower", 1, "pass")
    assert found[0].verbatim.estimate == pytest.approx(0.04)
    assert found[0].prompt.aliases  # so it is not the target's alone, and does not say so
    assert found[0].verbatim.claim.startswith("P(begins with the target or an alias) >=")
    assert not found[1].prompt.aliases
    assert found[1].verbatim.claim.startswith("P(begins with the target) >=")
    both, alone = (report.to_markdown(replace(run(Box()), prompts=some)) for some in (found, found[1:]))
    assert "say the target, or an alias of those that have some, at least once" in both
    assert "say the target at least once" in alone
    assert found[0].verbatim.upper == 1


@pytest.mark.parametrize(
    ("near", "aliases", "want"),
    [([], [], 1e-4), ([0.01, 0.02], [], 0.03), ([1e-5], [], 1e-4), ([0.7, 0.7], [], 1.0), ([], ["two"], 0.0)],
)
def test_near_verbatim_is_the_sum_of_its_beginnings_or_the_exact_one(near, aliases, want):
    box = Box(near={"q": near})
    found = certify(box, [{**QUESTIONS[1], "aliases": aliases}], scorer="contains", progress=False)
    bound = found.prompts[0].near_verbatim
    assert bound.estimate == pytest.approx(want)
    assert bound.lower == pytest.approx(want, rel=1e-8)
    assert bound.n == max(1, len(near))
    assert box.edits == [0]
    long = " ".join(["one"] * 25)
    certify(box, [{**QUESTIONS[1], "target": long}], scorer="contains", progress=False)
    assert box.edits == [0, 2]


def test_importance_weights_are_those_of_the_mixture():
    knows = {"p": {"no": 0.1, "the code is 4711": 0.9}, "q": {"one two": 0.5, "zero": 0.5}}
    box, other = Box(), Box(law={k: {**dict.fromkeys(LAW[k], 1e-9), **v} for k, v in knows.items()})
    n = 60
    found = run(box, num_generations=n, proposal=other, engine="iid", seed=1)
    for prompt, certificate in zip(("p", "q"), found.prompts, strict=True):
        own = int((uniforms(1, prompt, -1, 0, n) < 0.5).sum())
        values, counts = [], []
        target = "4711" if prompt == "p" else "one"
        for source, first, count in ((box, n, own), (other, 2 * n, n - own)):
            for g in source.generations(_shard(prompt, first, count, 1), None)[0]:
                p, q = LAW[prompt][g.text], other.law[prompt][g.text]
                values.append((target in g.text) * p / (0.5 * p + 0.5 * q) * 0.999)
                counts.append(g.count)
        want = importance_lower_bound(values, alpha=ALPHA, counts=counts)
        assert certificate.still_leaks.lower == pytest.approx(want.lower, rel=1e-9)
        assert certificate.still_leaks.estimate == pytest.approx(want.estimate, rel=1e-9)
        truth = sum(p for t, p in LAW[prompt].items() if target in t)
        assert 0 <= certificate.still_leaks.lower <= truth
        assert certificate.still_leaks.estimand == "P(h >= 0.5)"
    assert found.prompts[1].still_leaks.lower > 1e-5


def test_the_worst_completions_are_the_highest_scores_then_the_likeliest():
    words = ("no", "the", "is", "zero", "one", "two")
    law = {"p": {f"{'4711 ' * (i % 2)}{w}": 0.1 + i / 100 for i, w in enumerate(words)}}
    box = Box(law=law)
    (found,) = certify(box, QUESTIONS[:1], scorer="contains", engine="without-replacement", progress=False).prompts
    want = sorted(law["p"].items(), key=lambda x: (-("4711" in x[0]), -x[1]))[:5]
    assert [(c.text, c.score) for c in found.worst] == [(t, float("4711" in t)) for t, _ in want]
    assert [c.probability for c in found.worst] == pytest.approx([p for _, p in want])
    assert len(found.worst) == NUM_WORST == 5


def test_the_threshold_decides_what_leaks():
    box = Box()
    for threshold, mass in ((0.6, 0.1), (0.7, 0.0)):
        certificate = run(box, scorer="rouge_l_f1", threshold=threshold, engine="without-replacement").prompts[0]
        score = 2 * (2 / 4) / (2 / 4 + 1)  # two words of four, the whole alias "code 4711"
        assert certificate.limits.lower == pytest.approx(mass)
        assert certificate.leak.estimand == f"P(h >= {threshold:g})"
        process = without_replacement_bound([0.5, 0.3, 0.1, 0.06], [0, 0, score, 0], alpha=ALPHA)
        assert certificate.mean.estimate == pytest.approx(process.estimate, rel=1e-9)
        assert certificate.mean.upper == pytest.approx(process.upper, rel=1e-9)


def test_files_hold_sixteen_prompts_and_a_damaged_one_is_named(tmp_path):
    many = [{"id": f"q{i}", "text": "x", "target": "one"} for i in range(17)]
    law = {f"q{i}": LAW["q"] for i in range(17)}
    settings = {"scorer": "contains", "progress": False, "num_generations": 2, "out": tmp_path / "run"}
    found = certify(Box(law=law), many, **settings)
    files = sorted((tmp_path / "run" / "facts").iterdir())
    assert [len(Run.open(tmp_path / "run").read_facts(f.stem)) for f in files] == [16, 1]
    box = Box(law=law)
    assert certify(box, many, **settings) == found
    assert box.asked == []
    files[0].write_text("{")
    with pytest.raises(IncompleteRunError, match="delete the file and run `leakbound certify` again"):
        certify(box, many, **settings)


def test_a_proposal_must_spell_alike_end_alike_and_compute_exactly():
    class Other(Box):
        def target_tokens(self, prompt, text):
            return (*super().target_tokens(prompt, text), 5)

    class OneOther(Box):
        def target_tokens(self, prompt, text):
            return (5,) if text == "one" else super().target_tokens(prompt, text)

    for other in (Other(), OneOther(), Box(about={"end_tokens": [1]})):
        with pytest.raises(InputError, match="proposal has other tokens"):
            run(Box(), proposal=other)
    half, full = {"dtype": "bfloat16"}, {"dtype": "float64"}
    with pytest.raises(ModelError, match="model computes in bfloat16"):
        run(Box(about=half), proposal=Box())
    with pytest.raises(ModelError, match="proposal computes in bfloat16"):
        run(Box(), proposal=Box(about=half))
    run(Box(about=full), proposal=Box(about={"dtype": "float32"}))
    run(Box(about=half))
    run(Box(), num_generations=1, seed=0)
    with pytest.raises(InputError, match="num_generations"):
        run(Box(), num_generations=0)
    with pytest.raises(InputError, match="seed"):
        run(Box(), seed=-1)


def test_what_the_run_was_is_written_down():
    info = run(Box(), seed=4, num_generations=3).run
    assert info["kind"] == "certificate"
    assert (info["seed"], info["num_samples"], info["engine"], info["proposal"]) == (4, 3, "auto", None)
    assert info["statement"] == {"scorer": "contains", "threshold": 0.5, "alpha": ALPHA}
    assert info["prompts"]["count"] == 2
    assert run(Box(), proposal=Box()).run["proposal"] == Box().describe()


def shown(found, width=100):
    out = io.StringIO()
    Console(file=out, width=width).print(report.to_terminal(report.document_of(found)))
    return out.getvalue()


def test_draws_to_extract_are_the_first_that_suffice():
    """(n, p)-discoverable: n draws say the target at least once with probability p, n - 1 do not."""
    one = run(Box(), engine="without-replacement").prompts[0]
    for z in (0.9, 0.3, 1e-3):
        certain = replace(one.verbatim, estimate=z, lower=z)
        for p in (0.5, 0.99):
            n = replace(one, verbatim=certain).draws_to_extract(p)
            assert 1 - (1 - z) ** n >= p
            assert n == 1 or 1 - (1 - z) ** (n - 1) < p
    assert replace(one, verbatim=replace(one.verbatim, lower=0.0)).draws_to_extract(0.5) is None
    assert certificates._draws(None) == "–"
    assert certificates._draws(999_999) == "999,999"
    assert certificates._draws(12_301_000) == "1.24e+7"


@pytest.mark.parametrize("proposal", [None, Box()])
def test_the_table_says_which_limits_are_certain_and_which_hold_alone(proposal):
    found = run(Box(), engine="without-replacement", proposal=proposal)
    text = shown(found)
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()[:1] in ("p", "q")}
    for certificate in found.prompts:
        cells = lines[certificate.prompt.id]
        cells = " ".join(cells).replace("≤ ", "").split()
        low, high = certificate.limits.lower, certificate.leak.upper
        want = [
            certificate.prompt.id,
            slow.near(certificate.entropy),
            slow.down(certificate.seen_mass),
            slow.up(high),
            slow.down(low),
            slow.down(certificate.verbatim.lower),
            *(f"{certificate.draws_to_extract(p):,}" for p in (0.5, 0.99)),
        ]
        assert cells[:8] == want
        assert len(cells) == 8 + (proposal is not None)
    said = " ".join(text.split())
    still = " and “still ≥”" if proposal else ""
    assert f"“leak ≤”{still}: each alone, with confidence 0.99; for a prompt picked by its result use the" in said
    assert "“seen”, “leak ≥” and “target ≥” are certain, and so are “draws”: so many independent draws say" in said
    assert "no limit" not in said
    assert f"For every prompt, P(h >= 0.5) <= {math.ceil(found.worst_prompt.upper * 1e6) / 1e6:.6f} with" in said
    assert str(found) == str(found.worst_prompt)


def test_a_table_says_where_it_proves_nothing():
    law = {"p": {"4711": 0.6, "4711 no": 0.4}, "q": {"zero": 0.5, "no": 0.5}}
    found = run(Box(law=law), num_generations=1, engine="iid")
    text = shown(found, width=140)
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["p"])
    assert row[2:5] == ["iid", "no", "limit"]
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["q"])
    assert row[-4] == "–"  # no leak was seen: a lower limit of 0 says nothing
    said = " ".join(text.split())
    assert "“no limit”: every answer seen leaks, or too few were seen: 49 without a leak prove P(leak) <= 0.1." in said
    assert "nothing can be said yet of P(h >= 0.5)" in said


def test_a_long_table_shows_the_largest_bounds():
    found = run(Box(), engine="without-replacement")
    one = found.prompts[0]
    many = [
        replace(one, prompt=replace(one.prompt, id=f"x{i}"), leak=replace(one.leak, upper=0.14 + i / 100))
        for i in range(30)
    ]
    some = replace(found, prompts=tuple(many))
    text = shown(some)
    names = [line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0].startswith("x")]
    assert names == [f"x{i}" for i in range(29, 9, -1)]
    assert "… and 10 more" in text
    assert "more" not in shown(replace(found, prompts=tuple(many[:20]))).split("line above")[0].split("Certificates")[1]
    tied = [replace(p, leak=one.leak, limits=replace(one.limits, lower=i / 1000)) for i, p in enumerate(many)]
    text = shown(replace(found, prompts=tuple(tied)))
    assert [w for w in text.split() if w.startswith("x")] == [f"x{i}" for i in range(29, 9, -1)]
    assert Certification.from_json(json.loads(json.dumps(some.to_json()))) == some


def test_what_was_cut_before_it_leaked_is_counted_and_said():
    """A secret behind the cut is in no number: a certificate that does not say so claims the whole answer."""
    prompt = Prompt("p", "What is the code?", "4711")

    def judged(*ends):
        drawn = [{"text": text, "count": n, "logprob": math.log(0.25), "finish_reason": end} for text, n, end in ends]
        fact = {"entropy": 1.0, "engine": "iid", "verbatim": 0.0, "edits": 0, "near": [], "generations": drawn}
        one = _judge(prompt, fact, Statement("contains", 0.5, ALPHA))
        return Certification({"params": {}}, "contains", 0.5, ALPHA, (one,), one.leak)

    some = judged(("well", 30, "length"), ("it is 4711 and", 20, "length"), ("no", 50, "stop"))
    assert some.prompts[0].num_cut == 30
    assert next(some.rows())["num_cut"] == 30
    page = report.to_markdown(some)
    assert "30 of 100 generations were cut at max&#95;tokens before they leaked: of longer answers nothing" in page
    assert "| 30 % |" in page
    assert "to its end" not in str(some)
    every = judged(("well", 60, "length"), ("so", 40, "length"))
    assert "every generation of 1 prompt was cut before it leaked, and no answer was seen to its end" in str(every)
    assert "| all |" in report.to_markdown(every)
    none = judged(("no", 99, "stop"), ("4711 then", 1, "length"))
    assert none.cut_said == ""
    assert "cut" not in report.to_markdown(none)
    older = Certification.from_json({**none.to_json(), "prompts": [without(p) for p in none.to_json()["prompts"]]})
    assert (older.prompts[0].num_cut, "is not known" in str(older)) == (None, True)


def without(data):
    return {name: value for name, value in data.items() if name != "num_cut"}


def test_a_certificate_of_before_cuts_were_counted_is_verified_as_it_was(tmp_path):
    run = tmp_path / "run"
    certify(Box(), QUESTIONS, scorer="contains", num_generations=6, out=run, progress=False)
    data = json.loads((run / "certificate.json").read_text())
    assert verify(run).accepted
    del data["seal"]
    write_json(run / "certificate.json", {**data, "prompts": [without(p) for p in data["prompts"]]})
    assert verify(run).accepted
    wrong = [{**p, "num_cut": 1} for p in data["prompts"]]
    write_json(run / "certificate.json", {**data, "prompts": wrong})
    assert not verify(run).accepted
