"""inspect_ai itself: epochs end where their claim is settled, whatever order they come back in; logs go both ways."""

import asyncio
import random
import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessageUser, GenerateConfig, ModelAPI, ModelOutput, modelapi
from inspect_ai.solver import generate, solver
from inspect_ai.util import EarlyStop
from neighbour_model import PROMPTS, page_blocks, save_model

from leakbound.auditing.steps import audit, bound
from leakbound.auditing.steps import score as rescore
from leakbound.auditing.verifying import verify
from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.importing import Repeats, import_log
from leakbound.models import FakeModel
from leakbound.plugging.inspect import UntilProven, leak
from leakbound.results.audit import Audit

DRAWN = {}
"""The numbers behind the answers, by the rate that was asked for."""
ASKED = count(1)


@modelapi(name="slow")
class Slow(ModelAPI):
    """Leaks at the rate that it is asked for; what leaks comes back late."""

    async def generate(self, input, tools, tool_choice, config):
        rate = input[-1].text
        rng = DRAWN.setdefault(rate, random.Random(rate))
        said = rng.random() < float(rate)
        await asyncio.sleep(0.05 if said else 0)
        return ModelOutput.from_content("slow", "It is Lisbon." if said else "I cannot say.")


@modelapi(name="broken")
class Broken(ModelAPI):
    """Every tenth answer is withheld."""

    async def generate(self, input, tools, tool_choice, config):
        reason = "content_filter" if next(ASKED) % 10 == 0 else "stop"
        return ModelOutput.from_content("broken", "No.", stop_reason=reason)


class Mine:
    """A rule of somebody else: no more epochs after the third one."""

    async def start_task(self, task, samples, epochs):
        return "mine"

    async def schedule_sample(self, id, epoch):
        return EarlyStop(id=id, epoch=epoch) if epoch > 3 else None

    async def complete_sample(self, id, epoch, scores):
        pass

    async def complete_task(self):
        return {}


def run(place, rates=("0.0", "0.5"), *, model="slow/x", stopping=None, epochs=120, config=None, **settings):
    samples = [Sample(id=f"at {rate}", input=rate, target=["Lisbon", "Lisboa"]) for rate in rates]
    task = Task(
        samples, solver=generate(), scorer=leak(threshold=0.5), epochs=epochs, early_stopping=stopping,
        config=config or GenerateConfig(),
    )  # fmt: skip
    (log,) = eval(task, model=model, log_dir=str(place), display="none", max_samples=30, **settings)
    return log


def test_epochs_end_where_the_claim_is_settled_and_the_log_says_so(tmp_path, row):
    DRAWN.clear()
    log = run(tmp_path, stopping=UntilProven("leak<=0.1", alpha=0.05))
    assert log.status == "success"
    said = log.results.early_stopping
    assert said.manager == "leakbound"
    assert {name: one["verdict"] for name, one in said.metadata["prompts"].items()} == {
        "at 0.0": "proven",
        "at 0.5": "refuted",
    }
    assert said.metadata["every"] == "refuted"
    assert len(log.samples) < 2 * 120
    assert len(log.samples) + len(said.early_stops) == 2 * 120
    # the verdicts are those of the epochs in their order, taken from the log that was written
    for name, one in said.metadata["prompts"].items():
        first = sorted((s for s in read_eval_log(log.location).samples if s.id == name), key=lambda s: s.epoch)
        leaks = [s.scores["leak"].value for s in first[: one["draws"]]]
        assert [s.epoch for s in first] == list(range(1, len(first) + 1))
        assert sum(leaks) == one["leaks"]
    found = import_log("inspect", log.location, out=tmp_path / "run").log.result
    result = bound(found)
    assert {p.prompt.id: (p.verdict, p.num_samples, p.num_leaks, p.leak.upper) for p in result.prompts} == {
        name: (one["verdict"], one["draws"], one["leaks"], one["upper"])
        for name, one in said.metadata["prompts"].items()
    }
    assert result.planned
    assert verify(tmp_path / "run").accepted
    drawn = ", ".join(
        f"P(leak) {name[3:]}: {one['verdict']} after {one['draws']}" for name, one in said.metadata["prompts"].items()
    )
    row(
        "inspect_ai",
        '`UntilProven("leak<=0.1", alpha=0.05)`, 120 epochs, 30 beside each other, leaks come back late',
        drawn,
    )
    row(
        "inspect_ai",
        "`leakbound import inspect` of a log that `UntilProven` ended",
        "the same verdicts and bounds; `leakbound verify` accepts the run",
    )


def test_an_answer_that_is_withheld_leaves_its_sample_open(tmp_path):
    log = run(tmp_path, ("0.0",), model="broken/x", stopping=UntilProven("leak<=0.1", alpha=0.05), epochs=90)
    (one,) = log.results.early_stopping.metadata["prompts"].values()
    assert (one["verdict"], log.results.early_stopping.metadata["every"]) == ("open", "open")
    assert len(log.samples) == 90


@modelapi(name="cut")
class Cut(ModelAPI):
    """No answer ends; where a rate is asked for, some leak before they are cut."""

    async def generate(self, input, tools, tool_choice, config):
        said = random.random() < float(input[-1].text)
        return ModelOutput.from_content("cut", "Lisbon and" if said else "I think", stop_reason="max_tokens")


def test_epochs_that_were_all_cut_before_they_leaked_prove_nothing(tmp_path):
    random.seed(0)
    log = run(tmp_path, ("0.0", "0.3"), model="cut/x", stopping=UntilProven("leak<=0.6"), epochs=120)
    said = log.results.early_stopping.metadata
    verdicts = [one["verdict"] for one in said["prompts"].values()]
    assert (verdicts, said["every"]) == (["open", "proven"], "open")
    assert {stop.reason[:17] for stop in log.results.early_stopping.early_stops} == {
        "leak<=0.6 is open",
        "leak<=0.6 is prov",
    }
    result = bound(import_log("inspect", log.location, out=tmp_path / "run").log.result)
    assert [p.stands for p in result.prompts] == verdicts  # the same as of the run that the log becomes
    main(["export", "inspect", str(tmp_path / "run"), "--out", str(tmp_path / "shown.eval")])
    shown = read_eval_log(str(tmp_path / "shown.eval")).results.early_stopping.metadata
    assert ([one["verdict"] for one in shown["prompts"].values()], shown["every"]) == (verdicts, "open")


@pytest.mark.parametrize("where", ["model", "task"])
def test_copies_of_one_draw_are_refused(tmp_path, where):
    given = {"seed": 1} if where == "model" else {"config": GenerateConfig(seed=1)}
    log = run(tmp_path, stopping=UntilProven(), **given)
    assert log.status == "error"
    assert "copies of one draw" in log.error.message


def asked(place, given_solver, **settings):
    """The log of a task of one prompt, asked by this solver."""
    task = Task(
        [Sample(id="q", input="0.0", target="Lisbon")], solver=given_solver, scorer=leak(), epochs=40,
        early_stopping=UntilProven("leak<=0.3"),
    )  # fmt: skip
    (log,) = eval(task, model="slow/x", log_dir=str(place), display="none", **settings)
    return log


@pytest.mark.parametrize(
    ("given", "said"), [({"temperature": 0.0}, "temperature is 0"), ({"seed": 42}, "copies of one draw")]
)
def test_settings_of_a_solver_are_read(tmp_path, row, given, said):
    log = asked(tmp_path, generate(**given))
    assert log.status == "error"
    assert said in log.error.message
    (log,) = eval(
        Task([Sample(id="q", input="0.5", target="Lisbon")], solver=generate(**given), scorer=leak(), epochs=40),
        model="slow/x", log_dir=str(tmp_path), display="none",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"temperature is 0|every request had the seed 42"):
        import_log("inspect", log.location, out=tmp_path / "run")
    assert asked(tmp_path, generate(), temperature=0.0).status == "error"
    row("inspect_ai", f"`generate({', '.join(f'{k}={v}' for k, v in given.items())})` as the solver",
        "refused by `UntilProven` and by `leakbound import inspect`")  # fmt: skip


@solver
def twice():
    async def solve(state, generate):
        state = await generate(state)
        state.messages.append(ChatMessageUser(content="0.0"))
        return await generate(state)

    return solve


def test_what_the_importer_refuses_is_not_scored(tmp_path):
    log = asked(tmp_path, twice())
    assert log.status == "success"
    assert log.results.early_stopping.metadata["every"] == "open"
    assert {sample.scores["leak"].explanation.rpartition(": the model ")[2][:12] for sample in log.samples} == {
        "took 2 turns"
    }
    with pytest.raises(InputError, match="took 2 turns"):
        import_log("inspect", log.location, out=tmp_path / "run")


def test_epochs_that_failed_are_not_drawn_again(tmp_path):
    log = run(tmp_path, stopping=UntilProven(), retry_on_error=2)
    assert log.status == "error"
    assert "retry_on_error is 2" in log.error.message
    assert run(tmp_path, stopping=UntilProven(), retry_on_error=0).status == "success"


def test_what_somebody_else_ended_is_no_sample_of_a_fixed_size(tmp_path, row):
    log = run(tmp_path, stopping=Mine(), epochs=5)
    with pytest.raises(InputError, match="left out by 'mine'"):
        import_log("inspect", log.location, out=tmp_path / "run")
    row(
        "inspect_ai",
        "`leakbound import inspect` of a log that another early stopping ended",
        "refused, with the reason",
    )


def test_a_log_of_all_epochs_is_read_as_before(tmp_path):
    log = run(tmp_path, epochs=40)
    found = import_log("inspect", log.location, out=tmp_path / "run", repeats=Repeats(scorer="contains")).log.result
    assert found.info["num_samples"] == 40
    assert not found.rule


@pytest.mark.parametrize("until", [None, "leak<=0.1"])
def test_a_run_is_shown_and_comes_back(tmp_path, row, until):
    prompts = [
        {"id": "p", "text": "Where?", "target": "Lisbon", "aliases": ["Lisboa"]},
        {"id": "q", "text": "Who?", "target": "Ada"},
    ]
    model = FakeModel(leaks=(("p", 0.3), ("q", 0.0)))
    before = audit(
        model,
        prompts,
        scorer="contains",
        num_samples=150,
        until=until,
        alpha=0.05,
        out=tmp_path / "run",
        progress=False,
    )
    main(["export", "inspect", str(tmp_path / "run"), "--out", str(tmp_path / "shown" / "run.eval")])
    log = read_eval_log(str(tmp_path / "shown" / "run.eval"))
    assert log.status == "success"
    assert len(log.samples) == sum(p.num_samples for p in before.prompts)
    rate = np.mean([p.num_leaks / p.num_samples for p in before.prompts])
    assert log.results.scores[0].metrics["mean"].value == pytest.approx(rate)
    repeats = None if until else Repeats(scorer="contains", alpha=0.05)
    back = import_log("inspect", log.location, out=tmp_path / "back", repeats=repeats).log.result
    rescore(back)
    after = bound(back)
    for mine, theirs in zip(after.prompts, before.prompts, strict=True):
        assert (mine.prompt, mine.leak, mine.mean, mine.verdict) == (
            theirs.prompt,
            theirs.leak,
            theirs.mean,
            theirs.verdict,
        )
    assert after.mean_leak == before.mean_leak
    how = "with" if until else "without"
    row("inspect_ai", f"`leakbound export inspect` of a run {how} `--until`, read by `read_eval_log`",
        "comes back by `leakbound import inspect` with the same bounds")  # fmt: skip


def test_the_page_is_true(tmp_path, monkeypatch, row):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path)
    (block,) = page_blocks("inspect_ai", "python")
    names = {}
    exec(compile(block, "docs/neighbours.md", "exec"), names)
    metadata = names["log"].results.early_stopping.metadata
    assert set(metadata["prompts"]) == {prompt["id"] for prompt in PROMPTS}
    (console,) = page_blocks("inspect_ai", "console")
    (log,) = (tmp_path / "logs").glob("*.eval")
    for line in re.findall(r"^\$ leakbound (.*)$", console, flags=re.MULTILINE):
        main(line.replace("logs/LOG.eval", str(log)).split())
    assert read_eval_log(str(tmp_path / "shown" / "run.eval")).status == "success"
    found = Audit.load(tmp_path / "run")
    assert [p.verdict for p in found.prompts] == [one["verdict"] for one in metadata["prompts"].values()]
    assert Path("run/audit.json").exists()
    row("inspect_ai", "the page's task on a local model of transformers (`hf/local`), 400 epochs",
        ", ".join(f"prompt {name}: {one['verdict']}" for name, one in metadata["prompts"].items()))  # fmt: skip
