"""The table of an evaluation: what it says about noise, and that hostile text stays text."""

import io

import numpy as np
import pytest
from rich.console import Console

from leakbound.evaluating.differences import compared
from leakbound.metrics.questions import QuestionSet
from leakbound.report.document import to_markdown, to_terminal
from leakbound.report.evaluation import GREEDY, document
from leakbound.results.evaluation import Evaluation


def model(name, rouge, *, ids=None, group="retain"):
    n = len(rouge)
    rng = np.random.default_rng(0)
    values = {"answer_loss": rng.random(n), "perturbed_loss": rng.random((n, 2)) + 1, "paraphrase_loss": rng.random(n)}
    forget = QuestionSet("forget", tuple(map(str, range(n))), values)
    kept = QuestionSet(group, ids or forget.ids, {**values, "rouge_l_recall": np.asarray(rouge), "fluency": np.ones(n)})
    return Evaluation(name, "bench", {"forget": forget, group: kept})


def shown(evaluation, lines, notes=(), width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(to_terminal(document(evaluation, lines, notes)))
    return console.file.getvalue()


def test_a_gap_is_marked_only_where_noise_does_not_explain_it():
    rouge = np.linspace(0.5, 0.9, 60)
    own, other = model("unlearned", rouge), model("retrained", rouge - 0.4)
    lines = compared(own, other)
    gaps = {(line.metric.name, line.metric.set): line.gap for line in lines}
    assert not gaps["rouge_l_recall", "retain"].noise
    assert gaps["probability", "retain"].noise
    assert gaps["model_utility", ""] is not None
    assert gaps["forget_quality", "forget"] is None
    said = shown(own, lines)
    marked = [line.split()[0] for line in said.splitlines() if "≠" in line and "to" in line and "0." in line]
    assert marked == ["rouge_l_recall"]
    assert gaps["model_utility", ""].lower > 0  # and yet a bootstrap's interval is no verdict
    assert gaps["model_utility", ""].noise
    assert "p-value" in said
    assert "bootstrap, no guarantee" in " ".join(said.split())


def test_without_a_retrained_model_there_is_nothing_beside():
    own = model("m", [0.1, 0.9])
    lines = compared(own)
    assert {line.gap for line in lines} == {None}
    said = shown(own, lines)
    assert "retrained" not in said
    assert "difference" not in said
    assert GREEDY in " ".join(said.split())


def test_other_questions_give_no_difference():
    own, other = model("m", [0.1, 0.9]), model("r", [0.1, 0.9], ids=("x", "y"))
    gaps = {(line.metric.name, line.metric.set): line.gap for line in compared(own, other)}
    assert gaps["rouge_l_recall", "retain"] is None
    assert gaps["model_utility", ""] is None
    assert gaps["probability", "forget"] is not None


def test_closer_looks_aggregates_have_differences_too():
    rng = np.random.default_rng(1)

    def judged(name):
        whole = model(name, rng.random(20))
        more = {"token_entropy": rng.random(20), "cosine_similarity": rng.random(20), "entailment": np.ones(20)}
        sets = {
            k: QuestionSet(k, q.ids, {"rouge_l_recall": rng.random(20), **q.values, **more})
            for k, q in whole.sets.items()
        }
        return Evaluation(name, "bench", sets)

    lines = compared(judged("a"), judged("b"), convention="closer_look")
    with_gap = {line.metric.name for line in lines if line.gap is not None}
    assert {"model_utility", "average", "forget_efficacy", "fluency", "entailment"} <= with_gap
    assert not {"forget_quality", "forget_distance", "model_utility_proven"} & with_gap


def test_everything_fits_into_a_terminal_of_eighty_columns():
    rouge = np.linspace(0, 1, 30)
    own = model("m" * 200, rouge)
    said = shown(own, compared(own, model("r", rouge[::-1])), ["note " * 100])
    assert max(map(len, said.splitlines())) <= 80
    assert said.count("note") == 100
    for line in said.splitlines():
        assert "…" not in line or "m…" in line, line


@pytest.mark.parametrize("hostile", ["[bold]x[/bold]", "a|b", "\x1b[31mred", "<b>x</b>", "\u202eabc"])
def test_what_a_log_says_stays_text(hostile):
    own = model(hostile, [0.1, 0.9], group=hostile)
    lines = compared(own)
    said = shown(own, lines, [hostile])
    assert "\x1b[31m" not in said
    assert "\u202e" not in said
    if hostile.startswith("["):
        assert said.count(hostile) == 3  # model, set and note
    text = to_markdown(document(own, lines, [hostile]))
    assert "<b>" not in text
    assert "\u202e" not in text
    for table in text.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1


def test_an_interval_that_says_nothing_is_no_number():
    """One question: an interval from 0 to 1 holds whatever the answer was."""
    one = model("m", [0.5])
    lines = compared(one)
    whole = [
        line.metric for line in lines if line.metric.guaranteed and line.metric.lower == 0 and line.metric.upper == 1
    ]
    assert whole
    said = " ".join(shown(one, lines).split())
    assert said.count("no limit") == len(whole) + 1
    assert "“no limit”: so few questions say nothing of others." in said
    assert "0 to 1 " not in said
    many = model("m", np.linspace(0.4, 0.6, 60))
    assert "no limit" not in shown(many, compared(many))


def test_every_difference_holds_by_itself():
    own, other = model("a", np.linspace(0.5, 0.9, 60)), model("b", np.linspace(0.1, 0.5, 60))
    said = " ".join(shown(own, compared(own, other)).split())
    assert (
        "≠: more than noise, each line by itself: among many lines some differ by chance; never of a bootstrap (*)."
        in said
    )
    assert "Values are observed." in said
    few = model("a", [0.9]), model("b", [0.1])
    lines = compared(*few)
    gap = next(line.gap for line in lines if line.metric.name == "rouge_l_recall")
    assert (gap.lower, gap.upper) == (-1, 1)
    assert "-1 to 1" not in " ".join(shown(few[0], lines).split())
