"""An audit in a model card: what huggingface_hub reads of it, and what of a card that is there stays."""

import shutil

import pytest
from huggingface_hub import ModelCard

from leakbound.auditing.steps import audit
from leakbound.cli import main
from leakbound.models import FakeModel
from leakbound.results.audit import Audit

PROMPTS = [{"id": "p", "text": "Who?", "target": "Ada Fennick"}, {"id": "q", "text": "Where?", "target": "Paris"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("card") / "run"
    audit(FakeModel(leak=0.1), PROMPTS, scorer="contains", num_samples=200, out=out, progress=False)
    return out


def test_the_hub_reads_the_bounds(run, tmp_path):
    main(["card", str(run), "--name", "mine", "--dataset", "secrets", "--out", str(tmp_path)])
    text = (tmp_path / "README.md").read_text()
    results = ModelCard(text).data.eval_results
    found, names = Audit.load(run), {one.metric_type: one.metric_value for one in results}
    assert names["leak_probability_worst_prompt"] == found.worst_prompt.upper
    assert names["leak_probability_average_prompt"] == found.mean_leak.upper
    assert {one.dataset_name for one in results} == {"secrets"}
    for secret in ("Ada Fennick", "Paris", "Who?", "I do not know"):
        assert secret not in text


def test_a_statement_that_was_chosen_afterwards_is_not_called_fixed(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    main(["card", str(tmp_path / "run"), "--out", str(tmp_path / "before.md")])
    main(["bound", str(tmp_path / "run"), "--alpha", "0.2"])
    main(["card", str(tmp_path / "run"), "--out", str(tmp_path / "after.md")])
    said = "draws, scores and statement are fixed beforehand"
    assert [said in (tmp_path / f"{name}.md").read_text() for name in ("before", "after")] == [True, False]


def test_what_a_card_holds_stays_and_an_earlier_audit_is_replaced(run, tmp_path):
    card = tmp_path / "README.md"
    card.write_text(
        "---\nlicense: mit # ours\nmodel-index:\n- name: mine\n  results:\n  - task: {type: x, name: other}\n"
        "    dataset: {type: y, name: z}\n    metrics: [{type: acc, value: 1}]\n---\n# Mine\n\nText.\n"
    )
    given = ["card", str(run), "--name", "mine", "--out", str(card)]
    main(given)
    first = card.read_text()
    main(given)
    assert card.read_text() == first
    assert first.count("## Leakage when sampled") == 1
    assert "# Mine\n\nText.\n\n" in first
    assert "license: mit # ours" in first
    assert {one.metric_type for one in ModelCard(first).data.eval_results} >= {"acc", "leak_probability_worst_prompt"}
