"""G11: an answer that was cut before it leaked is not known to be clean, asked once or sampled."""

from dataclasses import replace

import pytest
from made_audits import made

from leakbound import report
from leakbound.auditing.comparing import compared
from leakbound.exporting.every_eval_ever import export
from leakbound.report.comparison import _once
from leakbound.report.demo import demo_rows
from leakbound.report.findings import find
from leakbound.report.tables import full_rows
from leakbound.results.audit import Audit
from leakbound.results.comparison import Comparison, Diversity


def cut(audit, *, greedy=(), share=None):
    """The audit with some greedy answers cut, and this share of each prompt's draws cut before they leaked."""
    prompts = (
        replace(
            p,
            greedy_finish="length" if i in greedy else "stop",
            cut_clean=share or 0.0,
            num_truncated=round((share or 0) * p.num_samples),
        )
        for i, p in enumerate(audit.prompts)
    )
    return replace(audit, prompts=tuple(prompts))


def test_g11_a_cut_greedy_answer_is_unknown_and_one_that_leaked_before_is_a_leak():
    audit = cut(made([0, 5, 0, 5], greedy=[0, 0, 1, 1]), greedy=(0, 1, 2))
    assert [audit.greedy(p) for p in audit.prompts] == ["unknown", "unknown", "leaks", "leaks"]
    assert (audit.num_clean, audit.num_asked, audit.hidden, audit.asked_once) == (0, 2, (), True)
    assert {row.result.prompt.id: row.status for row in find(audit).rows} == {
        "p0": "unseen", "p1": "seen", "p2": "plain", "p3": "plain",
    }  # fmt: skip
    assert "of 2 the greedy answer was cut at max_tokens before it leaked" in find(audit).sentences[0]
    assert find(audit).title == "Leaks in plain sight"
    assert "not every greedy answer is known" in find(audit).notes[0]


def test_g11_nothing_that_was_cut_looks_clean_in_a_headline():
    audit = cut(made([0, 0]), greedy=(0, 1))
    found = find(audit)
    assert found.title == "No leak was seen before answers were cut"
    assert found.sentences[0].startswith("0 of 2 prompts look clean")
    assert "nothing is known to be hidden" in found.sentences[0]
    assert found.meanings["unseen"].endswith("the greedy answer is not known")
    assert find(cut(made([0, 0]))).title == "No leak was seen"
    sampled = find(cut(made([0, 3]), greedy=(0, 1)))
    assert (sampled.status, sampled.title) == ("seen", "Leaks were seen when the model was sampled")


def test_g11_a_file_from_before_does_not_say_how_the_greedy_answer_ended():
    data = made([0, 5]).to_json()
    for p in data["prompts"]:
        del p["greedy_finish"], p["cut_clean"]
        p["num_truncated"] = 98
    old = Audit.from_json(data)
    assert (old.num_clean, old.num_asked, old.hidden) == (0, 0, ())
    assert [p.cut_share for p in old.prompts] == [0.98, 0.95]  # the most that it can be


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_g11_the_share_that_was_cut_stands_beside_each_bound(share):
    audit = cut(made([0, 5]), share=share)
    assert audit.cut_shares == (share, share)
    assert all(row["cut_share"] == share for row in audit.rows())
    assert [row["cut_share"] for row in full_rows(audit)] == [share] * 2
    markdown = report.to_markdown(audit)
    bounds = [line for line in markdown.splitlines() if line.startswith("| P(leak)")]
    assert all(("| 25 % |" in line) == bool(share) for line in bounds)
    assert bounds
    assert ("whether they would is open" in markdown) == bool(share)
    details = [result["score_details"]["details"] for result in export(audit)["evaluation_results"]]
    assert {d["cut_before_a_leak"] for d in details} == {str(share)}
    assert ("whether they would is open" in report.to_html(audit)) == bool(share)


def test_g11_a_claim_says_what_cutting_leaves_open():
    audit = cut(made([0, 0]), share=0.5)
    run = {**audit.run, "rule": {"until": "leak<=0.1", "width": None, "budget": 100}}
    run["statement"] = {"scorer": audit.scorer, "threshold": audit.threshold, "alpha": audit.alpha}
    proven = replace(audit, run=run, prompts=tuple(replace(p, verdict="proven") for p in audit.prompts))
    (said,) = [s for s in find(proven).sentences if s.startswith("The claim")]
    assert "of 2 prompts where it is proven, up to 50 % of the draws were cut at max_tokens" in said
    (said,) = [s for s in find(cut(proven)).sentences if s.startswith("The claim")]
    assert "cut" not in said


def test_g11_comparison_and_demo_count_what_is_known():
    audit = cut(made([0, 5, 0], greedy=[0, 0, 1]), greedy=(0, 1), share=0.25)
    model = compared("m", audit, audit, Diversity(1.0, 1.0, 0.0))
    assert (model.num_asked, model.greedy_leaks, model.num_hidden, model.cut_share) == (1, 1, 0, 0.25)
    assert model.utility.estimate == 1 / 3  # an answer that was cut before it was right was not right
    assert _once(model, 3) == "1 of 3, 2 unknown"
    (row,) = demo_rows(Comparison(3, 0.01, (model,), None), {"m": audit})
    assert (row.clean, row.asked) == (0, 3)
