"""Several audits side by side, on fakes whose leak probabilities are known."""

import json
import math
import re
import shutil
from dataclasses import replace

import away_models
import pytest

from leakbound import cli, report
from leakbound.auditing import comparing
from leakbound.auditing.comparing import _distinct, compare, diversity
from leakbound.auditing.steps import audit
from leakbound.errors import InputError, WorkerError
from leakbound.models import FakeModel
from leakbound.records import Prompt, SamplingParams
from leakbound.report import comparison, document
from leakbound.results.audit import Audit
from leakbound.results.comparison import Compared, Comparison
from leakbound.runs.store import Run
from leakbound.workers import Workers, seats

PROMPTS = tuple(Prompt(f"p{i}", f"What is secret {i}?", f"alpha beta {i}") for i in range(5))
KEPT = tuple(Prompt(f"k{i}", f"What is fact {i}?", f"gamma delta {i}") for i in range(8))
RATES = {"quiet": 0.01, "loud": 0.3, "twin": 0.3}


def draw(folder, model, prompts, **changes):
    settings = {"num_samples": 200, "scorer": "contains", "progress": False, **changes}
    audit(model, prompts, out=folder, **settings)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in RATES.items():
        draw(folder / name, FakeModel(leak=rate), PROMPTS)
        draw(folder / f"{name}-retain", FakeModel(leak=rate, leaks=(("k0", 0.9), ("k1", 0.6))), KEPT)
    return folder


def both(runs, *names):
    return [runs / name for name in names], [runs / f"{name}-retain" for name in names]


@pytest.mark.slow
def test_each_model_has_its_bounds_and_the_proven_order(runs):
    found = compare([runs / name for name in RATES])
    assert [m.name for m in found.models] == list(RATES)
    quiet, loud, twin = found.models
    assert quiet.mean_leak.upper < loud.mean_leak.estimate
    assert found.proven == ((0, 1), (0, 2))  # the same draws twice prove nothing
    assert (loud.mean_leak, loud.greedy_leaks) == (twin.mean_leak, 0)
    assert quiet.utility is None
    assert quiet.sampled_utility is None


def test_reading_the_runs_is_shown(runs, tmp_path, capsys):
    folders, kept = both(runs, "quiet", "loud")
    compare(folders, retain=kept)
    assert "comparing: 6 of 6 runs, 100 %" in capsys.readouterr().err
    compare(folders, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_workers_compare_alike_and_one_that_is_killed_is_replaced(runs, tmp_path, monkeypatch):
    folders, kept = both(runs, *RATES)
    monkeypatch.setattr(comparing, "diversity", away_models.diverse)
    here = compare(folders, retain=kept)
    assert here.differences is not None
    monkeypatch.setenv("AWAY", str(tmp_path))
    (tmp_path / "loud-retain.once").touch()
    assert compare(folders, retain=kept, workers=Workers(workers=2)) == here
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "quiet.always").touch()
    monkeypatch.setattr(seats, "TRIES", 1)
    with pytest.raises(WorkerError, match=r"(?s)^diversity of \S+quiet was given up.*my last words"):
        compare(folders[:2], workers=Workers(workers=1))


@pytest.mark.slow
def test_a_false_order_is_never_proven(tmp_path):
    """alpha is 1e-9, so that a failure here is an error and not chance."""
    folders = [draw(tmp_path / str(seed), FakeModel(leak=0.2), PROMPTS, alpha=1e-9, seed=seed) for seed in range(4)]
    assert compare(folders).proven == ()


@pytest.mark.slow
def test_nothing_is_proven_from_draws_that_stopped_early_or_a_statement_made_afterwards(runs, tmp_path):
    early = draw(tmp_path / "early", FakeModel(leak=0.3), PROMPTS, until="leak<=0.1")
    found = compare([runs / "quiet", early])
    assert found.proven is None
    text = report.to_markdown(found)
    assert "The lowest average P(leak) observed is that of quiet" in text
    assert "no order is proven" in text
    assert "smallest bound" not in text


@pytest.mark.slow
def test_utility_is_the_share_of_retain_questions_answered_rightly(runs):
    found = compare(both(runs, "quiet", "loud")[0], retain=both(runs, "quiet", "loud")[1])
    quiet = found.models[0]
    assert quiet.utility.estimate == 2 / 8  # k0 and k1 leak when asked once
    assert quiet.utility.lower < 2 / 8 < quiet.utility.upper
    assert quiet.sampled_utility == pytest.approx(
        sum(p.leak_rate for p in Audit.load(runs / "quiet-retain").prompts) / 8
    )


def test_right_answers_that_were_cut_may_have_been_right(tmp_path):
    """All eight were cut at max_tokens before they said it: nothing is known of how many would have."""

    class Cut(FakeModel):
        def sample(self, shard, params):
            return [replace(one, finish_reason="length") for one in super().sample(shard, params)]

    draw(tmp_path / "retain", Cut(leak=0.0), KEPT, engine="iid")
    found = comparing._utility(Audit.load(tmp_path / "retain"))
    assert (found.estimate, found.lower, found.upper) == (0.0, 0.0, 1.0)


def test_diversity_by_hand(tmp_path):
    class TwoAnswers(FakeModel):
        """Half of the draws say one thing and half another."""

    run = Run.open(draw(tmp_path / "run", TwoAnswers(leak=0.5), PROMPTS[:1], num_samples=400))
    counts = [d.count for part in run.parts if not part.greedy for d in run.read_draws(part)]
    shares = [count / 400 for count in counts]
    found = diversity(run)
    assert found.distinct == len(counts) / 400
    assert found.entropy == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert 0 < found.unlike < 1
    assert diversity(run) == found
    assert diversity(run, seed=1).unlike != found.unlike


def test_one_answer_has_no_diversity(tmp_path):
    run = Run.open(draw(tmp_path / "run", FakeModel(leak=1.0), PROMPTS[:1], num_samples=50))
    assert (diversity(run).distinct, diversity(run).unlike, diversity(run).entropy) == (1 / 50, 0.0, 0.0)


def test_cost_is_read_from_the_models_folder(runs, tmp_path, monkeypatch):
    record = {"steps": 36, "seconds": 4.25, "peak_memory_bytes": 5 * 2**20, "config": {"method": "npo_gd"}}
    (tmp_path / "training.json").write_text(json.dumps(record))
    monkeypatch.setattr("leakbound.results.audit.Audit.model", str(tmp_path))
    found = compare(both(runs, "quiet", "loud")[0])
    assert isinstance(found.models[0], Compared)
    assert comparison.tables(found)[-1].rows[0] == ("quiet", "npo_gd", "36", "4", "5 MiB")
    (tmp_path / "training.json").write_text("{")
    assert comparison.tables(compare(both(runs, "quiet", "loud")[0]))[-1].rows[0][1:] == ("unknown",) * 4


def test_the_page_the_markdown_and_the_table_say_the_same(runs, monkeypatch):
    monkeypatch.setitem(document._template().environment.filters, "svg", document._svg)  # rendered
    folders, retain = both(runs, "quiet", "loud")
    found = compare(folders, retain=retain, names=["<b>quiet</b> | $x$", "loud"])
    page = report.to_html(found)
    assert "<b>quiet" not in page
    assert "&lt;b&gt;quiet" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    assert page.count("<svg") == 4
    markdown = report.to_markdown(found)
    assert "<b>" not in markdown
    for section in comparison.tables(found):
        assert f"## {section.title}" in markdown
        assert section.title in page
        for cell in section.rows[-1]:
            assert cell in page.replace("\xa0", " ").replace("&lt;", "<")
    assert "leaks less than loud" in page
    from rich.console import Console

    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.to_terminal(report.document_of(found)))
    assert "Leakage" in console.export_text()


def test_without_retain_runs_the_report_says_that_use_is_unknown(runs):
    text = report.to_markdown(compare(both(runs, "quiet", "loud")[0]))
    assert "nothing is known about use" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scorer": "rouge_l"}, "has scorer 'rouge_l'"),
        ({"threshold": 0.4}, "has threshold 0.4"),
        ({"alpha": 0.05}, "has alpha 0.05"),
        ({"params": SamplingParams(temperature=0.7)}, "has other sampling parameters"),
    ],
)
def test_what_cannot_be_compared_is_named(runs, tmp_path, changes, message):
    other = draw(tmp_path / "other", FakeModel(leak=0.1), PROMPTS, **changes)
    with pytest.raises(InputError, match=message):
        compare([runs / "quiet", other])


def test_another_template_is_named_beside_the_comparison(runs, tmp_path, monkeypatch):
    """Weights that are asked in other words answer otherwise."""
    monkeypatch.setattr("leakbound.results.base._check_run", lambda file, found: None)  # only audit.json says it here
    folders = []
    for name, model in (("first", {"template": "Q: {text}"}), ("other", {"template": "{text}"}), ("unknown", {})):
        folders.append(shutil.copytree(runs / "loud", tmp_path / name))
        one = Audit.load(folders[-1])
        replace(one, run={**one.run, "model": {**one.run["model"], **model}}).save(folders[-1])
    found = compare(folders, guess=folders[1], names=["a", "b", "c"])
    assert found.asked_otherwise == ("b",)  # once
    said = "Caution: b got the prompts in another template than a"
    assert said in report.to_markdown(found)
    assert said in report.to_html(found)
    assert compare([folders[0], folders[2]]).asked_otherwise == ()
    assert compare([folders[0], folders[2]], guess=folders[1]).asked_otherwise == ("other",)
    same = shutil.copytree(folders[1], tmp_path / "elsewhere" / "first")  # a guess that is called as a run
    assert compare([folders[0], folders[2]], guess=same).asked_otherwise == ("first",)
    alike = [folders[0], shutil.copytree(folders[0], tmp_path / "alike")]
    assert compare(alike, retain=[folders[0], folders[1]]).asked_otherwise == ("alike",)
    first = Audit.load(folders[0])
    replace(first, run={**first.run, "model": {**first.run["model"], "date": "2026-01-01"}}).save(folders[1])
    assert compare(folders[:2]).asked_otherwise == ("other",)
    replace(first, run={**first.run, "model": None}).save(folders[1])
    assert compare(folders[:2]).asked_otherwise == ()


def test_wrong_folders_are_named(runs, tmp_path):
    folders, retain = both(runs, "quiet", "loud")
    with pytest.raises(InputError, match="runs holds 1 folders: give at least two"):
        compare(folders[:1])
    with pytest.raises(InputError, match="retain holds 1 folders and runs 2"):
        compare(folders, retain=retain[:1])
    with pytest.raises(InputError, match="names holds 1"):
        compare(folders, names=["one"])
    with pytest.raises(InputError, match="other prompts than the first"):
        compare([folders[0], retain[1]])
    with pytest.raises(InputError, match=r"there is no audit\.json"):
        compare([folders[0], tmp_path])


def test_equal_names_are_numbered():
    assert _distinct(["run", "other", "run"]) == ["run (1)", "other", "run (2)"]


def test_the_command_writes_both_files_and_prints_the_table(runs, tmp_path, capsys):
    folders, retain = both(runs, "quiet", "loud")
    options = ["--retain", *map(str, retain[:1]), "--retain", str(retain[1]), "--out", str(tmp_path / "out")]
    cli.main(["compare", *map(str, folders), *options])
    out = capsys.readouterr().out
    assert "quiet" in out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"comparison.json", "compare.html", "compare.md"}
    assert Comparison.load(tmp_path / "out") == compare(folders, retain=retain)


@pytest.mark.slow
def test_a_guess_is_no_leak_where_a_model_that_never_saw_the_secrets_is_known(runs, tmp_path, capsys):
    folders = [runs / name for name in ("loud", "twin", "quiet")]
    alone = compare(folders)
    assert [m.told for m in alone.models] == [(m.greedy_leaks, m.num_hidden) for m in alone.models]
    assert sum(alone.models[2].told) > 0
    found = compare(folders, guess=runs / "loud")
    loud, twin, quiet = found.models
    assert (found.guess, found.guess_level) == ("loud", loud.mean_leak.estimate)
    assert loud.beyond == twin.beyond == quiet.beyond == (0, 0)
    assert loud.excess is None
    assert 0 < twin.excess.upper < twin.worst_prompt.upper
    assert quiet.excess.upper < 0  # it leaks less than the guess
    page = report.to_html(found)
    assert "Clean when asked once" not in page
    assert "Which one: quiet. It leaks least on average; 1 other provably leaks more." in page
    assert "it guesses" in page
    cut = replace(found, models=(loud, twin, replace(quiet, cut_share=0.25)))
    assert "But up to 25 % of a model’s answers were cut before they leaked" in report.to_markdown(cut)
    more = compare([runs / "quiet", runs / "loud"], guess=runs / "quiet")
    assert more.models[1].beyond == (0, len(PROMPTS))
    assert more.models[1].excess.upper > 0.3
    said = report.to_markdown(more)
    assert "# Clean when asked once, leaking when sampled" in said
    assert "provably more often than “quiet” guesses (all at once with confidence 0.99)" in said
    assert "do not ship on this" in said
    cli.main(["compare", *map(str, folders), "--guess", str(runs / "loud"), "--out", str(tmp_path / "out")])
    assert Comparison.load(tmp_path / "out") == found
    assert "Which one: quiet" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(InputError, match="other prompts than the first"):
        compare(folders, guess=runs / "loud-retain")


def test_what_is_beyond_guessing_holds_for_all_models_at_once(runs):
    from leakbound.bounds import proportion_bound

    for others in (["loud"], ["loud", "twin"]):
        found = compare([runs / name for name in (*others, "quiet")], guess=runs / "quiet")
        level = found.alpha / len(found.models) / 2
        loud, quiet = Audit.load(runs / "loud"), Audit.load(runs / "quiet")
        pairs = [(p.num_leaks, g.num_leaks) for p, g in zip(loud.prompts, quiet.prompts, strict=True)]
        want = max(
            proportion_bound(k, 200, alpha=level).upper - proportion_bound(g, 200, alpha=level, side="lower").lower
            for k, g in pairs
        )
        assert found.models[0].excess.upper == pytest.approx(want, abs=1e-12)
        assert found.models[0].excess.alpha == found.alpha
