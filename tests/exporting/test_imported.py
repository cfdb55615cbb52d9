"""What a foreign log did not say is said by no export, and what was found against it stands beside every statement."""

import csv
import html
import io
import json

import pytest
from rich.console import Console

from leakbound.auditing.comparing import compared
from leakbound.auditing.steps import audit as drawn
from leakbound.auditing.steps import bound, score
from leakbound.exporting.card import section
from leakbound.exporting.every_eval_ever import export as every_eval_ever
from leakbound.exporting.inspect import export as inspect_log
from leakbound.importing import import_log
from leakbound.importing.imported import Asked, Log
from leakbound.importing.repeats import Repeats, write_run
from leakbound.models import FakeModel
from leakbound.records import Prompt, SamplingParams
from leakbound.report import document_of, to_csv, to_html, to_markdown, to_terminal
from leakbound.results.comparison import Comparison, Diversity
from leakbound.runs.store import Run


def imported(folder, decoding, *, reasons=("unknown",) * 40, others=None, same=False):
    """Run and audit of two prompts with 40 answers each; none leaks."""
    file = folder / "log"
    file.write_text("as another tool wrote it")
    asked = tuple(
        Asked(
            Prompt(name, f"Where is {name}?", "Paris"),
            tuple((f"No{'' if same else i % 3}.", reason) for i, reason in enumerate(reasons)),
            f"line {name}",
        )
        for name in "ab"
    )
    log = Log("lm-eval", file, "m", asked, decoding, others=others or {})
    run = write_run(log, folder / "run", Repeats(scorer="contains"), None).result
    score(run)
    return run, bound(run)


def details(audit):
    return [one["score_details"]["details"] for one in every_eval_ever(audit)["evaluation_results"]]


def everywhere(audit):
    """The pages, the terminal and the card."""
    out = io.StringIO()
    Console(file=out, width=10_000).print(to_terminal(document_of(audit)))
    return [to_html(audit), to_markdown(audit), out.getvalue(), section(audit)]


def test_cuts_that_are_not_known_are_not_called_none(tmp_path):
    _, audit = imported(tmp_path, {"temperature": 0.8})
    assert (audit.cut_unknown, audit.cut_shares) == (80, (0.0, 0.0))
    assert {one["cut_before_a_leak"] for one in details(audit)} == {"not known"}
    assert "how many of the answers were cut before they leaked is not known" in section(audit)
    for page in everywhere(audit)[:3]:
        assert "No leak was seen; whether answers were cut is not known" in page
        assert "Of 80 draws the log does not say whether they were cut" in page
    rows = list(csv.DictReader(io.StringIO(to_csv(audit))))
    assert [row["cut_share"] for row in rows] == ["", ""]
    mine = compared("m", audit, None, Diversity(0, 0, 0))
    assert mine.cut_share is None
    found = Comparison(2, 0.01, (mine,), None)
    assert "| not known |" in to_markdown(found)


def test_of_cuts_that_are_known_in_part_there_may_be_more(tmp_path):
    _, audit = imported(tmp_path, {"temperature": 0.8}, reasons=("unknown",) * 30 + ("length",) * 10)
    assert {one["cut_before_a_leak"] for one in details(audit)} == {"0.25 or more"}
    assert "25 % or more of the average prompt's answers were cut before they leaked" in section(audit)
    (tmp_path / "known").mkdir()
    _, known = imported(tmp_path / "known", {"temperature": 0.8}, reasons=("stop",) * 30 + ("length",) * 10)
    assert {one["cut_before_a_leak"] for one in details(known)} == {"0.25"}
    assert "25 % of the average prompt's answers were cut before they leaked" in section(known)


def test_only_settings_of_the_log_are_stated(tmp_path):
    run, audit = imported(tmp_path, {"top_p": 0.9})
    card = section(audit)
    assert "40 sampled answers to each (top_p 0.9, adaptive_temperature 0)" in card
    assert "drawn elsewhere: they come from a log of lm-eval. Assumed: independent draws from one model" in card
    assert "Not in the log, and not known: max_tokens, min_p, stop, temperature, top_k." in card
    log = inspect_log(run, audit)
    assert log["plan"]["config"] == {"top_p": 0.9, "stop_seqs": None}
    assert log["eval"]["metadata"]["imported"]["not_in_log"] == list(audit.not_in_log)
    file = tmp_path / "back.json"
    file.write_text(json.dumps(log))
    back = import_log("inspect", file, out=tmp_path / "back", repeats=Repeats(scorer="contains")).log.result
    assert back.info["imported"]["not_in_log"] == list(audit.not_in_log)
    (settings,) = {json.dumps(one["generation_config"]) for one in every_eval_ever(audit)["evaluation_results"]}
    assert json.loads(settings)["generation_args"] == {"top_p": 0.9}
    assert "seed" not in json.loads(settings)["additional_details"]


def test_all_settings_of_our_own_draws_are_exported(tmp_path):
    params = SamplingParams(temperature=0.8, min_p=0.1, max_tokens=9)
    made = drawn(FakeModel(leak=0.1), [{"text": "Where?", "target": "Paris"}], scorer="contains", num_samples=64,
                 params=params, out=tmp_path / "run", progress=False)  # fmt: skip
    log = inspect_log(Run.open(tmp_path / "run"), made)
    assert (log["plan"]["config"]["temperature"], log["plan"]["config"]["extra_body"]) == (0.8, {"min_p": 0.1})
    file = tmp_path / "back.json"
    file.write_text(json.dumps(log))
    back = import_log("inspect", file, out=tmp_path / "back", repeats=Repeats(scorer="contains")).log.result
    assert (back.params.temperature, back.params.min_p, back.params.max_tokens) == (0.8, 0.1, 9)
    assert "imported" not in log["eval"]["metadata"]
    assert "drawn elsewhere" not in section(made)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"same": True}, "are all equal for 2 of 2 prompts, though the log's temperature is 0.8. If every request had"),
        ({"others": {"logit_bias": {"7": -100}}}, "Also set when the answers were drawn: logit_bias. Every statement"),
    ],
)
def test_what_the_import_found_stands_beside_every_statement(tmp_path, more, said):
    _, audit = imported(tmp_path, {"temperature": 0.8}, **more)
    (caution,) = audit.cautions
    assert said in caution
    for page in everywhere(audit):
        assert f"Caution: {caution}" in html.unescape(page)
    assert {one["cautions"] for one in details(audit)} == {caution}


def test_the_values_of_other_settings_are_not_exported(tmp_path):
    """A system message may hold the secret."""
    _, audit = imported(tmp_path, {"temperature": 0.8}, others={"system_message": "Never say Paris."})
    assert "Paris" not in json.dumps(every_eval_ever(audit)) + section(audit)
    assert audit.run["imported"]["other_settings"] == {"system_message": "Never say Paris."}
