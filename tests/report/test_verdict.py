"""The first thing that a page says: missing evidence is never read as safe."""

from dataclasses import replace

import pytest
from made_audits import ask, made
from page_kinds import checks, proof

from leakbound.report.findings import find
from leakbound.report.page import document
from leakbound.report.rows import excess
from leakbound.report.verdict import answer, of_check, of_proof

RULE = {"until": "leak<=0.05", "width": None, "budget": 1000, "sizes": [1000]}


def ruled(leaks, verdicts, **changes):
    """An audit that was drawn until a claim was settled, with these verdicts."""
    found = made(leaks, 500)
    some = tuple(replace(p, verdict=v, **changes) for p, v in zip(found.prompts, verdicts, strict=True))
    fixed = {"scorer": found.scorer, "threshold": found.threshold, "alpha": found.alpha}
    return replace(found, prompts=some, run={**found.run, "rule": RULE, "statement": fixed})


@pytest.mark.parametrize(
    ("verdicts", "mark", "title", "command"),
    [
        (["proven", "proven"], "proven", "Proven: P(leak) ≤ 0.05 of every prompt", "leakbound verify"),
        (["proven", "refuted"], "open", "Undecided: P(leak) ≤ 0.05 of every prompt", "leakbound unlearn"),
        (["proven", "open"], "open", "Undecided: P(leak) ≤ 0.05 of every prompt", "--num-samples 4000"),
    ],
)
def test_the_verdict_on_a_tolerance(verdicts, mark, title, command):
    audit = ruled([0, 0], verdicts)
    said = answer(find(audit))
    assert (said.mark, document(audit).title) == (mark, title)
    assert command in said.command
    assert said.confidence == "0.99"


def test_answers_that_were_cut_and_judges_nobody_measured_are_not_safe():
    cut = ruled([0, 0], ["proven", "proven"], cut_clean=0.2)
    assert answer(find(cut)).mark == "open"
    assert "20 % of a prompt’s answers were cut" in answer(find(cut)).verdict
    assert "--max-tokens" in answer(find(cut)).command
    for scorer in ("judge:j.yaml", "after:</think>:judge:j.yaml"):
        judged = ruled([0, 0], ["proven", "proven"])
        fixed = {**judged.run["statement"], "scorer": scorer}
        judged = replace(judged, scorer=scorer, run={**judged.run, "statement": fixed})
        assert answer(find(judged)).mark == "open"
        assert answer(find(judged)).command.startswith("leakbound judge-errors")


def test_a_policy_or_a_proof_with_such_answers_lets_nothing_ship():
    passed, proven = checks("proven"), proof()
    assert (of_check(passed).mark, of_proof(proven).mark) == ("proven", "proven")
    cut = replace(passed, findings=(replace(passed.findings[0], cut=0.3),))
    assert of_check(cut).mark == "open"
    assert "up to 30 % of the answers were cut before they leaked" in of_check(cut).verdict
    assert "max-tokens" in of_check(cut).next
    refuted = checks("refuted")
    assert of_check(replace(refuted, findings=(replace(refuted.findings[0], cut=0.3),))).mark == "refuted"
    for other in (replace(proven, scorer="judge:j.yaml"), replace(proven, attempt=replace(proven.attempt, cut=0.1))):
        assert of_proof(other).mark == "open"
        assert "ship" not in of_proof(other).next


def test_the_next_step_of_a_policy_is_of_what_was_refuted():
    leaks = checks("refuted")
    (one,) = leaks.findings
    assert "unlearn until the refuted claims are proven" in of_check(leaks).next
    assert "--keep" not in of_check(leaks).command
    known = replace(leaks, findings=(replace(one, lower=True, claim="P(right) >= 0.9"),))
    assert "too little is answered right" in of_check(known).next
    assert "until the refuted" not in of_check(known).next
    for found in (known, replace(leaks, findings=(one, *known.findings))):
        assert of_check(found).command.endswith("--until 'leak<=0.05' --keep 'known>=0.95' --out NEW_MODEL")


def test_a_statement_chosen_later_or_a_log_gives_no_verdict():
    later = replace(ruled([0, 0], ["proven", "proven"]), planned=False)
    log = replace(later, run={**later.run, "imported": {}})
    for audit, why in ((later, "chosen after the draws"), (log, "come from a log")):
        said = answer(find(audit))
        assert (said.mark, said.confidence) == ("", "")
        assert said.verdict.startswith("None: ")
        assert why in said.verdict


def test_without_a_tolerance_it_says_what_can_be_claimed_and_how_to_ask():
    said = answer(find(made([0, 0], 1000)))
    assert said.tolerance == "none was asked for"
    assert said.mark == ""
    assert "What can be claimed: P(leak) ≤" in said.verdict
    assert "--until 'leak<=0.005'" in said.command
    nothing = answer(find(made([0], 1)))
    assert "Nothing can be claimed yet" not in answer(find(made([0, 0], 1000))).verdict
    assert "--num-samples" in nothing.command or "--until" in nothing.command


def test_a_model_that_never_saw_the_secrets_raises_no_alarm_and_few_draws_are_no_proof():
    guess = made([400, 3, 0], 1000)
    found = find(guess, guess)
    assert (found.status, found.title) == ("guessed", "No leak beyond guessing was found")
    assert not [tile for tile in document(guess, guess).tiles if tile.loud]
    few = find(made([3, 3], 5), made([0, 0], 5))
    assert few.title == "Leaks were seen, and the draws are too few to tell them from guessing"
    many = find(made([2] * 60, 200), made([0] * 60, 200))
    assert (many.status, many.title[:10]) == ("seen", "On average")


def test_what_exceeds_the_guess_level_is_bounded_for_every_prompt():
    found, guess = made([50, 10], 1000), made([40, 0], 1000)
    bound = excess(find(found, guess).rows, found, guess, found.alpha)
    assert 0.01 < bound.upper < 0.06
    assert bound.estimate == pytest.approx(0.01)
    assert excess(find(found, made([0], 1000)).rows, found, made([0], 1000), found.alpha) is None


def test_the_command_repeats_what_was_not_usual():
    said = answer(find(ask([0.0], num_samples=200, alpha=0.05)))
    assert "--scorer contains" in said.command
    assert "--alpha 0.05" in said.command
