"""A log that our own rule ended is a run with that rule; one that another rule ended is no sample of a fixed size."""

import json

import numpy as np
import pytest

from leakbound.auditing.steps import bound
from leakbound.auditing.stopping import StoppingRule
from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing import Repeats, import_log
from leakbound.plugging.in_order import MANAGER, InOrder, summary

RULE = StoppingRule("leak<=0.1", None, 150, 0.5, 0.05)
RATES = {"never": 0.0, "seldom": 0.04, "often": 0.6}


def drawn(beyond=7):
    """The epochs of each sample, where ``beyond`` were under way when the verdict fell; and what the rule says."""
    rng, watches, said = np.random.default_rng(0), {}, {}
    for name, rate in RATES.items():
        watch, said[name] = InOrder(RULE), []
        while len(said[name]) < RULE.budget and not watch.ended:
            said[name].append("In Lisbon." if rng.random() < rate else "No.")
            watch.put(len(said[name]) - 1, float("Lisbon" in said[name][-1]))
        said[name] += ["In Lisbon."] * min(beyond, RULE.budget - len(said[name]))
        watches[name] = watch
    return said, watches


def log_of(said, watches, scorer="contains", manager=MANAGER, planned=RULE.budget):
    samples = [
        {
            "id": name, "epoch": epoch, "input": f"Where? ({name})", "target": "Lisbon",
            "output": {"choices": [{"message": {"role": "assistant", "content": text}, "stop_reason": "stop"}]},
        }
        for name, texts in said.items()
        for epoch, text in enumerate(texts, start=1)
    ]  # fmt: skip
    stops = [{"id": name, "epoch": len(texts) + 1} for name, texts in said.items()]
    ended = {"manager": manager, "early_stops": stops, "metadata": summary(RULE, scorer, watches)}
    spec = {"model": "m", "config": {"epochs": planned}, "dataset": {"samples": 3}}
    return {"status": "success", "eval": spec, "results": {"early_stopping": ended}, "samples": samples}


def imported(folder, log, **asked):
    path = folder / "log.json"
    path.write_text(json.dumps(log))
    return import_log("inspect", path, out=folder / "run", repeats=Repeats(**asked) if asked else None).log


def test_it_has_the_verdicts_of_its_rule_and_nothing_drawn_beyond(tmp_path):
    said, watches = drawn()
    found = imported(tmp_path, log_of(said, watches))
    audit = bound(found.result)
    assert (
        [p.verdict for p in audit.prompts] == [w.verdict for w in watches.values()] == ["proven", "proven", "refuted"]
    )
    assert [p.num_samples for p in audit.prompts] == [w.n for w in watches.values()]
    assert [p.num_leaks for p in audit.prompts] == [w.leaks for w in watches.values()]
    assert audit.planned
    assert (audit.scorer, audit.threshold, audit.alpha) == ("contains", 0.5, 0.05)
    assert {name: one["upper"] for name, one in summary(RULE, "contains", watches)["prompts"].items()} == {
        p.prompt.id: p.leak.upper for p in audit.prompts
    }
    left = sum(len(texts) for texts in said.values()) - sum(w.n for w in watches.values())
    assert left > 7
    assert any(f"; {left} that were under way" in note for note in found.notes)


def test_draws_that_end_before_the_rule_does_are_missing(tmp_path):
    said, watches = drawn(beyond=0)
    said["never"].pop()
    with pytest.raises(IncompleteRunError, match=r"'never' has .* draws are missing"):
        imported(tmp_path, log_of(said, watches))


def test_what_anybody_else_ended_is_refused_though_the_numbers_are_equal(tmp_path):
    said = {name: ["No.", "Lisbon."] for name in RATES}
    with pytest.raises(InputError, match="left out by 'mine'"):
        imported(tmp_path, log_of(said, {}, manager="mine") | {})
    log = log_of(said, {}, manager="mine")
    log["results"] = {}
    with pytest.raises(IncompleteRunError, match="2 of 150 epochs"):
        imported(tmp_path, log)
    log["eval"]["config"]["epochs"] = 2
    assert imported(tmp_path, log).result.info["num_samples"] == 2


def test_the_statement_is_that_of_the_rule(tmp_path):
    log = log_of(*drawn())
    with pytest.raises(InputError, match=r"threshold is 0.7, .* a rule with 0.5"):
        imported(tmp_path, log, threshold=0.7)
    log = log_of(*drawn(), scorer="os.path:join")
    with pytest.raises(InputError, match="not built in"):
        imported(tmp_path, log)
    log = log_of(*drawn(), planned=100)
    with pytest.raises(InputError, match="budget of 150 draws"):
        imported(tmp_path, log)


def test_the_defaults_are_the_rules_unless_they_are_asked_for(tmp_path):
    log = log_of(*drawn())
    assert imported(tmp_path, log, threshold=0.5).result.info["statement"]["scorer"] == "contains"
    with pytest.raises(InputError, match=r"scorer is 'rouge_l', .* a rule with 'contains'"):
        imported(tmp_path, log, scorer="rouge_l")
    with pytest.raises(InputError, match=r"alpha is 0\.01, .* a rule with 0\.05"):
        imported(tmp_path, log, alpha=0.01)


@pytest.mark.parametrize(
    ("part", "damage", "said"),
    [
        (None, lambda told: told.pop("rule"), "early_stopping.metadata has no 'rule'"),
        (None, lambda told: told.update(statement=None), "'statement' is None, not an object"),
        ("rule", lambda rule: rule.pop("budget"), "has a budget of None draws, not of its 150 epochs"),
        ("rule", lambda rule: rule.pop("width"), "the rule of its early stopping has no 'width'"),
        ("rule", lambda rule: rule.update(until=7), "cannot be read"),
        ("statement", lambda told: told.pop("scorer"), "the statement of its early stopping has no 'scorer'"),
        ("statement", lambda told: told.update(alpha="x"), "cannot be read .alpha is 'x'"),
        ("statement", lambda told: told.update(threshold="0.5"), "cannot be read .threshold is '0.5'"),
    ],
)
def test_a_damaged_rule_is_named_with_its_field(tmp_path, part, damage, said):
    log = log_of(*drawn())
    told = log["results"]["early_stopping"]["metadata"]
    damage(told if part is None else told[part])
    with pytest.raises(InputError, match=rf"log\.json: .*{said}"):
        imported(tmp_path, log)


def test_an_answer_that_was_drawn_again_is_no_draw(tmp_path):
    log = log_of(*drawn())
    log["samples"][4]["error_retries"] = [{"message": "timeout"}]
    with pytest.raises(IncompleteRunError, match="drawn again"):
        imported(tmp_path, log)
