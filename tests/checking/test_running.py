"""A policy on models whose leak probability is known: verdicts, their level, and what is remembered."""

import json
import sys
from dataclasses import replace

import pytest
from tiny_models import tiny_model, word_tokenizer

from leakbound.auditing.steps import audit
from leakbound.bounds import look_shares
from leakbound.checking import running
from leakbound.checking.policy import Demand, Policy, read_demand
from leakbound.checking.pytest_plugin import assert_leak
from leakbound.checking.running import check, fingerprint
from leakbound.cli import main
from leakbound.errors import IncompleteRunError, InputError
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.records import SamplingParams
from leakbound.report.findings import find
from leakbound.report.verdict import answer, of_check
from leakbound.results.audit import Audit
from leakbound.results.check import Verdicts
from leakbound.scoring import is_pinned

ROWS = [{"id": f"p{i}", "text": f"question {i}?", "target": f"secret {i}"} for i in range(6)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with prompts; a model is a folder that says how often it leaks, and counts how often it is opened."""
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.chdir(tmp_path)
    opened = []

    def opening(name, *, template, loading):
        opened.append(name)
        return FakeModel(**json.loads((tmp_path / name / "law.json").read_text()))

    monkeypatch.setattr(running, "open_model", opening)
    monkeypatch.setattr(running, "seen", opened, raising=False)
    return tmp_path


def model(place, name, **law):
    (place / name).mkdir(exist_ok=True)
    (place / name / "law.json").write_text(json.dumps(law))
    return name


def policy(*claims, models, alpha=0.01):
    usual = {"prompts": "prompts.jsonl", "scorer": "contains", "num_samples": 1024}
    return Policy(
        models=models,
        claims=tuple(
            read_demand("test", {**({} if "not_worse_than" in claim else usual), **claim}, alpha) for claim in claims
        ),
        alpha=alpha,
    )


@pytest.mark.parametrize("of", ["every", "average"])
@pytest.mark.parametrize("named", ["model", "scorer"])
def test_what_a_killed_check_drew_of_a_name_proves_nothing_of_today(place, monkeypatch, named, of):
    """Yesterday's model or function was clean, and the check died before its verdict."""
    usual, claim = running.write_json, {"claim": "leak<=0.1", "of": of}
    law = {"law": 0.0}
    if named == "scorer":
        (place / "graders.py").write_text(
            "import os\ndef strict(said, wanted): return float(os.environ['LEAKS'] == '1' or wanted in said)\n"
        )
        monkeypatch.syspath_prepend(str(place))
        claim["scorer"], models = "graders:strict", {"m": model(place, "m", leak=0.0)}
    else:
        models = {"m": "http://there"}
        monkeypatch.setattr(running, "open_model", lambda *_, **__: FakeModel(leak=law["law"]))

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setenv("LEAKS", "0")
    monkeypatch.setattr(running, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        check(policy(claim, models=models), "out", progress=False)
    assert list((place / "out").rglob("*.parquet"))
    monkeypatch.setattr(running, "write_json", usual)
    monkeypatch.setenv("LEAKS", "1")
    law["law"] = 0.9
    assert check(policy(claim, models=models), "out", progress=False).verdict == "refuted"


def test_a_killed_check_of_a_folder_goes_on_where_it_stopped(place, monkeypatch):
    claims, usual, drawn = policy({"claim": "leak<=0.1"}, models={"m": model(place, "m", leak=0.0)}), running.audit, []
    with monkeypatch.context() as dying:
        dying.setattr(running, "every_verdict", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            check(claims, "out", progress=False)
    monkeypatch.setattr(FakeModel, "sample", lambda *_: drawn.append(1))
    assert check(claims, "out", progress=False).verdict == "proven"
    assert not drawn
    assert usual is running.audit


def test_a_model_that_no_claim_is_about_is_refused(place):
    with pytest.raises(InputError, match="no claim is about 'other': add one, or leave the model out"):
        policy({"claim": "leak<=0.1", "models": ["m"]}, models={"m": "m", "other": "m"})


def test_a_claim_is_said_with_all_its_digits(place):
    """Rounded, it says more than was proven."""
    claims = [{"claim": "leak<=0.05000004"}, {"claim": "known>=0.9949999"}]
    found = check(policy(*claims, models={"m": model(place, "m", leak=0.5)}), "out", progress=False)
    assert [one.claim.split(" for ")[0] for one in found.findings] == ["P(leak) <= 0.05000004", "P(right) >= 0.9949999"]


@pytest.mark.parametrize(("claim", "cut"), [("mean<=0.7", 1.0), ("leak<=0.7", 0.0)])
def test_answers_that_were_cut_leave_the_mean_open_whatever_their_score(place, monkeypatch, claim, cut):
    class Cutter(FakeModel):
        def sample(self, shard, params):
            return [replace(d, text="the secret", finish_reason="length") for d in super().sample(shard, params)]

    monkeypatch.setattr(running, "open_model", lambda *_, **__: Cutter(leak=0.0))
    rows = [{"id": "p", "text": "q?", "target": "the secret is Paris"}]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = {"claim": claim, "scorer": "rouge_l", "threshold": 0.4 if cut == 0 else 0.99}
    (one,) = (found := check(policy(wanted, models={"m": "x"}), "out", progress=False)).findings
    assert one.cut == cut
    assert one.verdict == ("open" if cut else "refuted")
    assert ("was cut before it leaked" in of_check(found).verdict) == bool(cut)
    assert ("larger max-tokens" in of_check(found).next) == bool(cut)


class Unending(FakeModel):
    """Of p3 every answer that does not leak is cut."""

    def sample(self, shard, params):
        return [
            replace(d, finish_reason="length") if d.prompt_id == "p3" and d.text == self.clean else d
            for d in super().sample(shard, params)
        ]


@pytest.mark.parametrize("of", ["every", "average", "each"])
@pytest.mark.parametrize(("leaks", "verdict"), [(0.0, "open"), (0.2, "proven")])
def test_where_every_draw_of_a_question_was_cut_nothing_is_proven(place, monkeypatch, of, leaks, verdict):
    """The secret may follow each time; a model that thinks beyond max_tokens would pass with an empty answer."""
    monkeypatch.setattr(running, "open_model", lambda *_, **__: Unending(leak=0.0, leaks=(("p3", leaks),)))
    claim = "leak<=0.1" if of == "average" else "leak<=0.5"  # if p3 leaks always, the average is more than .1
    found = check(policy({"claim": claim, "of": of}, models={"m": "x"}), "out", progress=False)
    (one,), never = found.findings, verdict == "open"
    assert (one.verdict, one.never_ended, found.exit_code) == (verdict, int(never), 3 * never)
    why = "every draw of 1 prompt was cut before it leaked, and no answer was seen to its end"
    assert [why in str(one), "larger max-tokens" in str(one), why in str(found)] == [never] * 3
    if never:
        assert one.worst[0].id == "p3"
        assert "larger max-tokens" in of_check(found).next
        with pytest.raises(AssertionError, match=why):
            assert_leak("x", "prompts.jsonl", claim, of=of, scorer="contains", num_samples=512, out="asserted")


def test_an_average_stands_where_too_few_questions_never_ended_to_break_it(place, monkeypatch):
    monkeypatch.setattr(running, "open_model", lambda *_, **__: Unending(leak=0.0))
    found = check(policy({"claim": "leak<=0.25", "of": "average"}, models={"m": "x"}), "out", progress=False)
    assert (found.findings[0].verdict, found.findings[0].never_ended) == ("proven", 1)


def test_of_a_run_that_was_all_cut_nothing_is_not_worse(place, monkeypatch):
    audit(Unending(leak=0.0), ROWS, scorer="contains", num_samples=600, out=place / "before", progress=False)
    monkeypatch.setattr(running, "open_model", lambda *_, **__: Unending(leak=0.0))
    (one,) = check(policy({"not_worse_than": "before", "by": 0.5}, models={"m": "x"}), "out", progress=False).findings
    assert (one.verdict, one.never_ended) == ("open", 1)


@pytest.mark.parametrize(("leaks", "code"), [(0.0, 3), (0.2, 0)])
def test_audit_until_is_open_where_every_draw_was_cut(place, monkeypatch, capsys, leaks, code):
    (place / "unending.py").write_text(
        "from test_running import Unending\n\n\n"
        f"def model():\n    return Unending(leak=0.0, leaks=(('p3', {leaks}),))\n"
    )
    monkeypatch.syspath_prepend(str(place))
    sys.modules.pop("unending", None)
    monkeypatch.setitem(sys.modules, "test_running", sys.modules[__name__])
    line = ["audit", "unending:model", "--prompts", "prompts.jsonl", "--scorer", "contains", "--num-samples", "512"]
    with pytest.raises(SystemExit) as ended:
        main([*line, "--until", "leak<=0.5", "--out", "run"])
    assert ended.value.code == code
    said = " ".join(capsys.readouterr().out.split())
    assert ("no answer was seen to its end: give a larger --max-tokens" in said) == (code == 3)
    found = find(Audit.load("run"))
    assert (answer(found).mark == "open", "--max-tokens" in answer(found).command) == (True, True)
    assert ("was cut before it leaked, and no answer" in " ".join(found.sentences)) == (code == 3)
    assert answer(found).verdict.startswith("Undecided" if code == 3 else "Proven")


def test_a_verdict_says_all_where_all_were_cut_and_a_percentage_else(place):
    found = check(policy({"claim": "leak<=0.1"}, models={"m": model(place, "m", leak=0.0)}), "out", progress=False)
    for cut, said in ((1.0, ", all of the draws"), (0.01, ", 1 % of the draws"), (0.9999, ", 99.99 % of the draws")):
        assert said in str(replace(found.findings[0], cut=cut))
    (one,) = replace(found, findings=(replace(found.findings[0], cut=1.0),)).findings
    assert "But all of the answers were cut" in of_check(replace(found, findings=(one,))).verdict


def test_what_only_a_judge_saw_may_not_ship_yet(place):
    found = check(policy({"claim": "leak<=0.1"}, models={"m": model(place, "m", leak=0.0)}), "out", progress=False)
    assert "may ship" in of_check(found).next
    judged = replace(found, findings=tuple(replace(one, scorer="judge:strict.yaml") for one in found.findings))
    assert "how often it is wrong is not counted" in of_check(judged).verdict
    assert "may ship" not in of_check(judged).next


def test_a_page_of_the_average_holds_at_whatever_stage_it_stopped(place):
    claims = policy({"claim": "leak<=0.1", "of": "average"}, models={"m": model(place, "m", leak=0.0)})
    (one,) = check(claims, "out", progress=False).findings
    assert Audit.load(one.run).alpha == one.level * look_shares(4)[0]


def test_a_check_that_fails_leaves_no_verdict_of_another_time(place, capsys, monkeypatch):
    (place / "policy.yaml").write_text(
        "model: m\nclaims: [{claim: leak<=0.1, prompts: prompts.jsonl, scorer: contains, num_samples: 256}]\n"
    )
    model(place, "m", leak=0.0)
    line = ["check", "policy.yaml", "--out", "out", "--junit", "junit.xml"]
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 0
    assert all((place / file).exists() for file in ("out/check.json", "out/check.html", "junit.xml"))
    monkeypatch.setattr(running, "fingerprint", lambda *_: 1 / 0)
    with pytest.raises(SystemExit):
        main(line)
    assert not any((place / file).exists() for file in ("out/check.json", "out/check.html", "junit.xml"))


@pytest.mark.parametrize(
    ("claim", "law", "verdict"),
    [
        ({"claim": "leak<=0.01"}, {"leak": 0.0}, "proven"),
        ({"claim": "leak<=0.01"}, {"leak": 0.0, "leaks": [["p3", 0.3]]}, "refuted"),
        pytest.param({"claim": "leak<=0.01"}, {"leak": 0.009}, "open", marks=pytest.mark.slow),
        ({"claim": "leak<=0.1", "of": "each"}, {"leak": 0.5}, "refuted"),
        ({"claim": "leak<=0.1", "of": "average"}, {"leak": 0.0, "leaks": [["p3", 0.3]]}, "proven"),
        pytest.param({"claim": "leak<=0.01", "of": "average"}, {"leak": 0.05}, "refuted", marks=pytest.mark.slow),
        ({"claim": "mean<=0.1"}, {"leak": 0.01}, "proven"),
        ({"claim": "known>=0.9"}, {"leak": 0.99}, "proven"),
        ({"claim": "known>=0.9"}, {"leak": 0.5}, "refuted"),
        pytest.param({"claim": "known>=0.9"}, {"leak": 0.9}, "open", marks=pytest.mark.slow),
    ],
)
def test_what_is_clear_is_settled_and_what_is_not_stays_open(place, claim, law, verdict):
    found = check(policy(claim, models={"m": model(place, "m", **law)}), "out", progress=False)
    (one,) = found.findings
    assert one.verdict == verdict
    assert found.exit_code == {"proven": 0, "refuted": 1, "open": 3}[verdict]
    most = 6 * 1024
    assert one.num_draws < most if verdict != "open" else one.num_draws == most
    if law.get("leaks") and verdict == "refuted":
        assert one.worst[0].id == "p3"


def test_all_verdicts_share_alpha_equally(place):
    models = {name: model(place, name, leak=0.0) for name in "ab"}
    claims = {"claim": "leak<=0.1"}, {"claim": "leak<=0.2", "models": ["b"]}
    found = check(policy(*claims, models=models), "out", progress=False)
    assert [(one.model, one.name) for one in found.findings] == [
        ("a", "leak<=0.1"),
        ("b", "leak<=0.1"),
        ("b", "leak<=0.2"),
    ]
    assert {one.level for one in found.findings} == {0.01 / 3}
    audits = [json.loads(file.read_text()) for file in place.glob("out/*/audit.json")]
    assert {one["alpha"] for one in audits} == {0.01 / 3}


@pytest.mark.slow
def test_an_unchanged_model_is_not_opened_again(place):
    name = model(place, "m", leak=0.0)
    rules = policy({"claim": "leak<=0.1"}, {"claim": "known>=0.5"}, models={"m": name})
    reused = []
    first = check(rules, "out", progress=False, each=lambda _, before: reused.append(before))
    assert running.seen == ["m"]  # once for both claims
    assert len(list(place.glob("out/**/report.html"))) == 1  # none that calls right answers leaks
    again = check(rules, "out", progress=False, each=lambda _, before: reused.append(before))
    assert running.seen == ["m"]
    assert reused == [False, False, True, True]
    assert again == first
    model(place, "m", leak=0.5)
    third = check(rules, "out", progress=False)
    assert running.seen == ["m", "m"]
    assert [one.verdict for one in third.findings] == ["refuted", "open"]


def test_a_verdict_of_another_claim_or_without_its_checksum_is_refused(place):
    """Copied into the folder of a stricter claim, or edited by hand, it would pass it, and nothing would be drawn."""
    models = {"m": model(place, "m", leak=0.0)}
    loose, strict = (policy({"claim": claim}, models=models) for claim in ("leak<=0.5", "leak<=0.0001"))
    check(loose, "out", progress=False)
    assert check(strict, "out", progress=False).verdict == "open"
    (there,), (here,) = place.glob("out/*leak--0.5*/finding.json"), place.glob("out/*leak--0.0001*/finding.json")
    written = here.read_text()
    right = json.loads(written)
    del right["seal"]
    for text, why in (
        (there.read_text(), "does not fit"),
        (json.dumps(right), "is missing"),
        (written.replace('"open"', '"proven"'), "does not fit"),
    ):
        here.write_text(text)
        with pytest.raises(IncompleteRunError, match=rf"its checksum {why}.*remove .*, and its claim is checked anew"):
            check(strict, "out", progress=False)
    here.unlink()
    assert check(strict, "out", progress=False).verdict == "open"


@pytest.mark.parametrize(
    "change", [{"threshold": 1.0}, {"seed": 1}, {"temperature": 0.5}, {"system": "Be brief."}, {"num_samples": 9}]
)
@pytest.mark.slow
def test_another_claim_is_another_verdict(place, change):
    models = {"m": model(place, "m", leak=0.0)}
    check(policy({"claim": "leak<=0.1"}, models=models), "out", progress=False)
    check(policy({"claim": "leak<=0.1", **change}, models=models), "out", progress=False)
    assert running.seen == ["m", "m"]


def test_other_prompts_of_the_same_file_are_another_verdict(place):
    rules = policy({"claim": "leak<=0.1"}, models={"m": model(place, "m", leak=0.0)})
    check(rules, "out", progress=False)
    (place / "prompts.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    check(rules, "out", progress=False)
    assert running.seen == ["m", "m"]


def test_a_model_that_is_only_a_name_is_drawn_from_each_time(place, monkeypatch):
    monkeypatch.setattr(running, "open_model", lambda name, **_: FakeModel(leak=0.0))
    rules = policy({"claim": "leak<=0.1"}, models={"m": "http://localhost:1/v1#m"})
    check(rules, "out", progress=False)
    monkeypatch.setattr(running, "open_model", lambda name, **_: FakeModel(leak=0.9))
    found = check(rules, "out", progress=False)
    assert found.verdict == "refuted"


def test_a_scorer_of_ones_own_is_asked_anew(place, monkeypatch):
    """Its name does not say what it does: the verdict of one that has been mended since would be read again.

    The two files differ in length, by which Python knows that what it compiled within the same second is of another.
    """
    monkeypatch.syspath_prepend(str(place))
    all_of_them = " ".join(row["target"] for row in ROWS)
    models = {"m": model(place, "m", leak=0.0, clean=all_of_them)}
    for said, verdict in (("completion == target", "proven"), ("target in completion != 0", "refuted")):
        (place / "own_scorer.py").write_text(
            f"def found(completion, target):\n    return float({said})\n\n\nfound.framed = False\n"
        )
        sys.modules.pop("own_scorer", None)
        rules = policy({"claim": "leak<=0.1", "scorer": "own_scorer:found"}, models=models)
        assert check(rules, "out", progress=False).verdict == verdict


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("contains", True), ("regex:a:b", True), ("after:</think>:contains", True), ("after:x:mine:function", False),
        ("judge:j.yaml#0123456789ab", True), ("after:x:judge:j.yaml#0123456789ab", True),
        ("judge:mine:function", False), ("mine:function", False), ("embedding:./model", False),
    ],
)  # fmt: skip
def test_which_scorers_are_all_that_their_names_say(name, pinned):
    assert is_pinned(name) == pinned


def test_other_software_is_another_law(place, monkeypatch):
    rules = policy({"claim": "leak<=0.1"}, models={"m": model(place, "m", leak=0.0)})
    check(rules, "out", progress=False)
    there = running.software_versions()
    monkeypatch.setattr(running, "software_versions", lambda: {**there, "python": "9"})
    check(rules, "out", progress=False)
    assert running.seen == ["m"]
    monkeypatch.setattr(running, "software_versions", lambda: {**there, "transformers": "9"})
    check(rules, "out", progress=False)
    assert running.seen == ["m", "m"]


def test_the_assertion_takes_a_path_and_names_what_is_none(place):
    model(place, "m", leak=0.0)
    found = assert_leak(place / "m", place / "prompts.jsonl", "leak<=0.1", out=place / "out", scorer="contains")
    assert found.verdict == "proven"
    with pytest.raises(InputError, match=r"a model is FakeModel\(.*: give a text"):
        assert_leak(FakeModel(), "prompts.jsonl", "leak<=0.1", out=place / "out")


def test_a_store_is_refused_and_an_alpha_that_is_none(place):
    """There the verdict of yesterday was not found, but its draws were, so that a server's model kept it for good."""
    rules = policy({"claim": "leak<=0.1"}, models={"m": "http://localhost:1/v1#m"})
    with pytest.raises(InputError, match=r"out is 's3://bucket/out': this is only written to a disk"):
        check(rules, "s3://bucket/out", progress=False)
    with pytest.raises(InputError, match="alpha is 2"):
        policy({"not_worse_than": "before"}, {"not_worse_than": "then"}, {"not_worse_than": "once"}, models={"m": "m"},
               alpha=2)  # fmt: skip


def test_a_fingerprint_is_of_all_bytes_and_of_the_base(tmp_path):
    one, base = tmp_path / "one", tmp_path / "base"
    for folder in (one, base):
        folder.mkdir()
        (folder / "weights").write_bytes(b"abc")
    first = fingerprint(str(one))
    assert first == fingerprint(str(base))
    (one / "weights").write_bytes(b"abd")
    assert fingerprint(str(one)) != first
    (one / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    before = fingerprint(str(one))
    (base / "weights").write_bytes(b"xyz")
    assert fingerprint(str(one)) != before
    assert fingerprint(str(one), str(tmp_path / "none")) is None  # a base on a hub: nobody knows what it is now
    assert fingerprint("http://localhost:1/v1#m") is None


def test_a_fingerprint_sees_what_is_behind_a_linked_folder(tmp_path):
    one, plain, store = tmp_path / "one", tmp_path / "plain", tmp_path / "store"
    for folder in (one, plain / "weights", store):
        folder.mkdir(parents=True)
    for file in (store / "w.safetensors", plain / "weights" / "w.safetensors"):
        file.write_bytes(b"abc")
    (one / "weights").symlink_to(store)
    first = fingerprint(str(one))
    assert first == fingerprint(str(plain))
    (store / "round").symlink_to(one)  # a circle ends
    (one / "self").symlink_to(one)
    assert fingerprint(str(one)) == first
    (store / "w.safetensors").write_bytes(b"abd")
    assert fingerprint(str(one)) != first


@pytest.mark.slow
def test_not_worse_than_a_run(place):
    audit(FakeModel(leak=0.1), ROWS, scorer="contains", num_samples=600, out=place / "before", progress=False)
    models = {"better": model(place, "better", leak=0.01), "worse": model(place, "worse", leak=0.4)}
    found = check(policy({"not_worse_than": "before"}, models=models), "out", progress=False)
    assert [one.verdict for one in found.findings] == ["proven", "refuted"]
    found = check(policy({"not_worse_than": "before", "by": 0.5}, models=models), "out", progress=False)
    assert found.verdict == "proven"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 1.5),
        ("threshold", 0.9),
        ("num-samples", 9),
        ("seed", 4),
        ("max-tokens", 5),
        ("scorer", "contains"),
    ],
)
def test_what_the_run_decides_is_no_setting_of_the_claim(place, key, value):
    """It would be ignored without a word; of the defaults it may stay, which are for other claims too."""
    said = rf"{key.replace('-', '_')} is .* beside not_worse_than 'before', whose own settings are used: leave .* out"
    with pytest.raises(InputError, match=said):
        policy({"not_worse_than": "before", key: value}, models={"m": "m"})
    (place / "policy.yaml").write_text(
        f"model: m\ndefaults: {{{key}: {value}, by: 0.1}}\n"
        "claims:\n  - {not-worse-than: before}\n  - {prompts: prompts.jsonl, claim: 'leak<=0.1'}\n"
    )
    assert [one.by for one in Policy.read(place / "policy.yaml").claims] == [0.1, 0.0]
    with pytest.raises(InputError, match=r"by is 0.3 and not_worse_than is not given: leave by out"):
        policy({"claim": "leak<=0.1", "by": 0.3}, models={"m": "m"})
    with pytest.raises(InputError, match=r"by is 0.3 beside claim 'leak<=0.1'"):
        Demand(prompts="prompts.jsonl", claim="leak<=0.1", by=0.3)


def test_a_scorer_of_ones_own_that_is_not_the_runs_is_refused(place):
    audit(FakeModel(leak=0.1), ROWS, scorer="contains", num_samples=8, out=place / "before", progress=False)
    claim = {"not_worse_than": "before", "scorer": "mine:strict"}
    with pytest.raises(InputError, match=r"scorer is 'mine:strict' beside .* 'before', whose own scorer 'contains' is"):
        check(policy(claim, models={"m": model(place, "m", leak=0.0)}), "out", progress=False)


def test_a_run_is_measured_against_with_its_template(place, monkeypatch):
    """Asked in another way, the new model may leak less for that alone."""
    network = tiny_model("llama")
    usual = {"scorer": "contains", "num_samples": 16, "params": SamplingParams(max_tokens=2), "progress": False}
    box = {template: HFModel(network, word_tokenizer(), template=template, name="m") for template in ("qa", "raw")}
    audit(box["qa"], "prompts.jsonl", out="runs/last", **usual)
    asked = []
    monkeypatch.setattr(running, "open_model", lambda name, *, template, loading: asked.append(template) or box["qa"])
    check(policy({"not_worse_than": "runs/last"}, models={"m": "x"}), "out", progress=False)
    assert asked == [box["qa"].template]
    monkeypatch.setattr(running, "open_model", lambda name, *, template, loading: box[template])
    with pytest.raises(InputError, match="leave template out of the claim"):
        check(policy({"not_worse_than": "runs/last", "template": "raw"}, models={"m": "x"}), "other", progress=False)


def test_a_run_that_stopped_early_is_no_measure(place):
    audit(
        FakeModel(leak=0.1),
        ROWS,
        scorer="contains",
        num_samples=600,
        until="leak<=0.5",
        out=place / "before",
        progress=False,
    )
    with pytest.raises(InputError, match="cannot be paired"):
        check(policy({"not_worse_than": "before"}, models={"m": model(place, "m", leak=0.0)}), "out", progress=False)


@pytest.mark.slow
def test_the_command_writes_everything_and_ends_with_its_verdict(place, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "step.md"))
    (place / "step.md").write_text("before\n")
    (place / "policy.yaml").write_text(
        "model: m\ndefaults: {prompts: prompts.jsonl, scorer: contains, num-samples: 300}\n"
        "claims:\n  - {claim: 'leak<=0.1'}\n"
        "  - {claim: 'leak<=0.1', name: 'a,b: c', temperature: 0.7}\n"
    )
    for law, code in (({"leak": 0.0}, 0), ({"leak": 0.8}, 1), ({"leak": 0.1}, 3)):
        model(place, "m", **law)
        with pytest.raises(SystemExit) as end:
            main(["check", "policy.yaml", "--out", "out", "--junit", "junit.xml"])
        assert end.value.code == code
        said = capsys.readouterr().out
        assert said.count("::notice title=") == 2 * (code == 0)
        assert said.count("::error title=") == 2 * (code == 1)
        assert "title=a%2Cb%3A c::" in said
        assert json.loads((place / "out/check.json").read_text())["exit_code"] == code
        assert Verdicts.load(place / "out").exit_code == code
        assert (place / "step.md").read_text().startswith("before\n")
        assert (place / "out/check.html").exists()


@pytest.mark.slow
def test_audit_until_ends_with_its_verdict(place):
    base = ["audit", "leakbound.models.fake:FakeModel", "--prompts", "prompts.jsonl", "--scorer", "contains"]
    for limit, code in (("0.2", 0), ("0.0001", 1), ("0.0101", 3)):
        with pytest.raises(SystemExit) as end:
            main([*base, "--num-samples", "2048", "--until", f"leak<={limit}", "--out", f"run-{limit}"])
        assert end.value.code == code


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("claim: 0.01", "claim is 0.01: give a text, or leave claim out"),
        ("claim: 'leak<=0.1', scorer: ", "scorer is None: give a text, or leave scorer out"),
        ("claim: 'leak<=0.1', name: 3", "name is 3: give a text, or leave name out"),
        ("claim: 'leak<=0.1', prompts: 5", "prompts is 5: give a text, or leave prompts out"),
        ("claim: 'leak<=0.1', system: 5", "system is 5: give a text, or leave system out"),
        ("claim: 'leak<=0.1', template: [a]", "template is ['a']: give a text, or leave template out"),
        ("claim: 'leak<=0.1', models: ", "models is None: give a list of names"),
        ("claim: 'leak<=0.1', models: 3", "models is 3: give a list of names"),
        ("claim: 'leak<=0.1', seed: abc", "seed is 'abc': give a whole number >= 0"),
        ("claim: 'leak<=0.1', seed: -1", "seed is -1: give a whole number >= 0"),
        ("not-worse-than: before, by: '0.1'", "by is '0.1': give a number in [0, 1)"),
        ("not-worse-than: 3", "not_worse_than is 3: give a text, or leave not_worse_than out"),
    ],
)
def test_a_value_of_another_type_is_named(place, capsys, said, error):
    prompts = "" if "prompts" in said or "not-worse" in said else "prompts: prompts.jsonl, "
    (place / "policy.yaml").write_text(f"model: m\nclaims: [{{{prompts}{said}}}]\n")
    with pytest.raises(SystemExit) as ended:
        main(["check", "policy.yaml", "--out", "out"])
    assert ended.value.code == 2
    assert f"policy.yaml, claim 1: {error}" in " ".join(capsys.readouterr().err.split())


def test_a_setting_that_stands_twice_or_is_not_known_is_refused(place):
    for claim, said in (
        ({"num-samples": 9, "num_samples": 10_000}, "'num_samples' stands twice"),
        ({"temprature": 1}, "did you mean temperature"),
        ({"of": "all"}, "every, average or each"),
        ({"temperature": 0}, "one answer is no sample"),
    ):
        with pytest.raises(InputError, match=said):
            policy({"claim": "leak<=0.1", **claim}, models={"m": "m"})
