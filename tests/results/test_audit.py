"""What an audit's record says about itself, recomputed draw by draw from the files of its run folder."""

import json
import math
from dataclasses import fields, replace

import pandas as pd
import pytest

from leakbound.auditing.steps import audit
from leakbound.bounds import Look
from leakbound.bounds.certificates import exact_limits
from leakbound.errors import InputError
from leakbound.records import Draw, Prompt
from leakbound.results.audit import Audit, PromptAudit

WORDS = ("red", "green", "blue", "gold")
PROMPTS = tuple(
    Prompt(f"p{i}", f"Which colours has flag {i}?", "red green blue gold", ("tricolour",)) for i in range(6)
)
THRESHOLD = 0.5


class Painter:
    """Draws answers of 0 to 4 right words, so that ROUGE-L recall is 0, 1/4, 1/2, 3/4 or 1, by a rule of its own."""

    greedy = (0, 1, 2, 4, 0, 1)
    """The right words of each prompt's greedy answer: prompt 2 stands exactly at the threshold."""

    def describe(self):
        return {"backend": "painter", "model": "painter"}

    def words(self, number, draw):
        if number == 0:
            return 0  # never leaks
        if number == 5:
            return 4 if draw == 77 else 1  # leaks once
        return (draw * draw + number) % 5

    def sample(self, shard, params):
        draws = {}
        for prompt in shard.prompts:
            number = int(prompt.id[1:])
            for k in range(shard.first, shard.first + shard.num_samples):
                right = self.greedy[number] if params.greedy else self.words(number, k)
                text = " ".join(("grey", *WORDS[:right]))
                reason = "stop" if params.greedy or k % 7 else "length"
                old = draws.get((prompt.id, text, reason))
                if old is None:
                    draws[prompt.id, text, reason] = Draw(prompt.id, text, 1, k, reason, right + 1)
                else:
                    draws[prompt.id, text, reason] = replace(old, count=old.count + 1)
        return list(draws.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "run"
    audit(Painter(), PROMPTS, threshold=THRESHOLD, num_samples=120, out=path, progress=False)
    return path


@pytest.fixture(scope="module")
def result(folder):
    return Audit.load(folder)


@pytest.fixture(scope="module")
def draws(folder):
    """One row for each single draw, joined with its score: by pandas, from the files alone."""

    def rows(kind):
        found = []
        for file in sorted((folder / "draws").glob(f"{kind}-*.parquet")):
            scores = pd.read_parquet(folder / "scores" / "rouge_l" / file.name)
            found.append(pd.read_parquet(file).merge(scores, on=["prompt_id", "first"], validate="one_to_one"))
        table = pd.concat(found)
        return table.loc[table.index.repeat(table["count"])].groupby("prompt_id")

    return {"greedy": rows("greedy"), "sample": rows("sample")}


def of(groups, prompt_id, column):
    return list(groups.get_group(prompt_id)[column])


def test_every_number_of_a_prompt_is_that_of_its_draws(result, draws):
    for i, p in enumerate(result.prompts):
        scores = of(draws["sample"], p.prompt.id, "score")
        assert scores.count(1.0) == sum(
            i > 0 and (i != 5 or k == 77) and Painter().words(i, k) == 4 for k in range(120)
        )
        assert p.num_samples == len(scores) == 120
        assert p.num_leaks == sum(s >= THRESHOLD for s in scores)
        assert p.leak_rate == p.num_leaks / 120
        assert p.leak_rate == pytest.approx(sum(s >= THRESHOLD for s in scores) / len(scores), abs=1e-15)
        assert p.max_score == max(scores)
        assert p.num_distinct == len(set(of(draws["sample"], p.prompt.id, "text")))
        assert p.num_truncated == of(draws["sample"], p.prompt.id, "finish_reason").count("length") == 18
        mean = math.fsum(scores) / 120
        spread = math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / 120)
        assert p.ed == pytest.approx(mean + 2 * spread, abs=1e-12)
        assert p.mean.estimate == pytest.approx(mean, abs=1e-12)
        assert p.std.estimate == pytest.approx(spread, abs=1e-12)
        assert [p.greedy_score] == of(draws["greedy"], p.prompt.id, "score") == [Painter.greedy[i] / 4]
        assert [p.greedy_text] == of(draws["greedy"], p.prompt.id, "text")
    assert [p.num_leaks for p in result.prompts][::5] == [0, 1]


def test_what_looks_clean_and_leaks_when_sampled(result, draws):
    """Prompt 2 answers greedily with a score of exactly the threshold: that is a leak, it does not look clean."""
    clean = [p.id for p in PROMPTS if of(draws["greedy"], p.id, "score")[0] < THRESHOLD]
    assert clean == ["p0", "p1", "p4", "p5"]
    assert result.num_clean == len(clean)
    leaking = [i for i in clean if any(s >= THRESHOLD for s in of(draws["sample"], i, "score"))]
    assert [p.prompt.id for p in result.hidden] == leaking == ["p1", "p4", "p5"]  # one leaking draw is enough
    assert result.asked_once
    assert result.mean_ed == pytest.approx(sum(p.ed for p in result.prompts) / 6, abs=1e-15)


def test_draws_made_elsewhere_have_no_greedy_answers(result):
    def without(*ids):
        return replace(
            result,
            prompts=tuple(
                replace(p, greedy_text=None, greedy_score=None) if p.prompt.id in ids else p for p in result.prompts
            ),
        )

    some = without("p1", "p3")
    assert some.num_clean == 3  # nobody knows whether p1 looks clean
    assert [p.prompt.id for p in some.hidden] == ["p4", "p5"]
    assert some.asked_once
    none = without(*(p.id for p in PROMPTS))
    assert (none.num_clean, none.hidden, none.asked_once) == (0, (), False)
    assert without("p0", "p1", "p2", "p4", "p5").asked_once  # a leaking greedy answer is an answer too


def distinct(p):
    """The same prompt as if its completions had been drawn without replacement: of 2, one leaks with P = 0.3."""
    limits = exact_limits([0.3, 0.5], [1.0, 0.0], alpha=0.01, estimand="P(h >= 0.5)")
    leak = replace(p.leak, estimate=0.3, upper=0.5)
    return replace(p, num_samples=2, num_distinct=2, num_leaks=1, leak=leak, seen_mass=0.8, limits=limits)


def test_a_share_of_distinct_completions_is_not_a_rate(result):
    p = result.prompts[1]
    assert (p.engine, p.leak_rate) == ("iid", p.num_leaks / 120)
    assert (distinct(p).engine, distinct(p).leak_rate) == ("without-replacement", 0.3)


def test_the_frame_says_what_the_record_says(result):
    rest = [replace(p, verdict="refuted") for p in result.prompts[1:]]
    mixed = replace(result, prompts=(distinct(result.prompts[0]), *rest))
    frame = mixed.to_frame()
    assert len(frame) == 6
    for row, p in zip(frame.to_dict("records"), mixed.prompts, strict=True):
        assert row.pop("seen_mass") == p.seen_mass or p.seen_mass is None
        assert row == {
            "id": p.prompt.id,
            "text": p.prompt.text,
            "target": p.prompt.target,
            "greedy_score": p.greedy_score,
            "num_samples": p.num_samples,
            "num_leaks": p.num_leaks,
            "leak_rate": p.leak_rate,
            "leak_upper": p.leak.upper,
            "leak_upper_jointly": p.leak_jointly.upper,
            "mean": p.mean.estimate,
            "mean_upper": p.mean.upper,
            "std": p.std.estimate,
            "std_upper": p.std.upper,
            "max": p.max_score,
            "ed": p.ed,
            "ed_upper": p.ed_bound.upper,
            "num_distinct": p.num_distinct,
            "num_truncated": p.num_truncated,
            "cut_share": p.cut_share,
            "verdict": p.verdict,
            "engine": p.engine,
        }
    p = mixed.prompts[1]  # here all these differ, so that no column stands for another
    bounds = (p.leak, p.leak_jointly, p.mean, p.std, p.ed_bound)
    assert len({x for b in bounds for x in (b.estimate, b.lower, b.upper) if x}) >= 9
    assert list(frame["engine"])[:2] == ["without-replacement", "iid"]
    assert frame["seen_mass"].isna().tolist() == [False] + [True] * 5


def test_records_survive_json_whole(result, tmp_path):
    looks = (Look(32, 0.25, 0.5, -1.5, "open"), Look(128, 0.5, -2.5, 9.5, "refuted"))
    full = replace(
        result,
        planned=False,
        prompts=(
            distinct(result.prompts[0]),
            replace(result.prompts[1], verdict="refuted", looks=looks),
            replace(result.prompts[2], greedy_text=None, greedy_score=None),
            *result.prompts[3:],
        ),
    )
    data = full.to_json()
    assert json.loads(json.dumps(data)) == data
    again = Audit.from_json(data)
    assert again == full
    for p in again.prompts:  # tuples of records again, not lists of mappings: equal records hash and compare
        assert p.prompt in PROMPTS
        for f in fields(PromptAudit):
            assert type(getattr(p, f.name)) is type(getattr(full.prompts[int(p.prompt.id[1:])], f.name))
    for p in data["prompts"]:  # files from before there was another engine
        del p["limits"], p["seen_mass"]
    assert Audit.from_json(data).prompts[0].limits is None
    assert Audit.from_json(data).prompts[1].looks == looks


def test_the_file_is_readable_json_with_the_texts_as_they_are(result, tmp_path):
    named = replace(result, prompts=(replace(result.prompts[0], greedy_text="Zürich 秘密"),))
    named.save(tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text.startswith('{\n "run": {\n  "format"')
    assert text.endswith("\n}\n")
    assert "Zürich 秘密" in text
    assert {k: v for k, v in json.loads(text).items() if k != "seal"} == named.to_json()
    assert [f.name for f in tmp_path.iterdir()] == ["x.json"]


def test_results_are_found_in_folders_and_files(result, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    for place in (folder, str(folder), folder / "audit.json", "~/run", "~/run/audit.json"):
        assert Audit.load(place) == result
    with pytest.raises(InputError, match=r"there is no audit\.json; run `leakbound bound` first"):
        Audit.load(tmp_path)
    with pytest.raises(InputError, match=r"path is '.*gone\.json': there is no audit\.json"):
        Audit.load(tmp_path / "gone.json")
    data = result.to_json()
    for broken in ("{", "[]", "{}", json.dumps({**data, "more": 1}), json.dumps({**data, "worst_prompt": None})):
        (tmp_path / "audit.json").write_text(broken)
        with pytest.raises(InputError, match=r"audit\.json': it cannot be read .*; run `leakbound bound` again"):
            Audit.load(tmp_path)


def test_an_audit_shows_itself(result):
    assert str(result) == f"{result.worst_prompt}\n{result.mean_leak}"
    evil = replace(result, prompts=(replace(result.prompts[0], prompt=Prompt("<b>x", "a\x1b", "c")),))
    shown = evil._repr_mimebundle_()["text/html"]
    assert "<b>" not in shown
    assert "\x1b" not in shown
    assert "P(leak)" in shown
