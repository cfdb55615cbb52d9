"""The documents of benchmark runs: nothing is cut in a terminal, and what a text says stays text."""

import io

from rich.console import Console

from leakbound import report
from leakbound.bounds import Bound
from leakbound.metrics.intervals import Metric
from leakbound.report.benchmark import ABREAST
from leakbound.results.benchmark import BenchmarkRun, BenchmarkTable, ContinualRun

TITLES = ("P(leak) of every prompt, the worst one included", "P(leak), averaged over the prompts")


def run(model="m", sampled=True):
    names = (("probability", "forget"), ("rouge_l_recall", "forget"), ("extraction_strength", "forget"),
             ("rouge_l_recall", "retain"), ("model_utility", ""))  # fmt: skip
    bounds = [Bound("P(h >= 0.5)", 0.01, 0.0, upper, 0.01, "upper", 128, "Clopper-Pearson") for upper in (0.25, 0.125)]
    return BenchmarkRun(
        suite="tofu-forget10", model=model, settings={}, checksums={"f.json": "sha256:0"}, reference=None,
        metrics=tuple(Metric(name, of, 0.25, 0.125, 0.5, 0.01, 40, "exact (betting)") for name, of in names),
        differences=(), bounds=dict(zip(("worst_prompt", "mean_leak"), bounds, strict=True)) if sampled else {},
        seconds={"likelihoods": 3.0, "sampling": 1.0}, verdict=("It leaks.",),
        statements=tuple(zip(TITLES, bounds, strict=True)) if sampled else (),
    )  # fmt: skip


def shown(result, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(report.to_terminal(report.document_of(result)))
    return console.file.getvalue()


def test_a_run_says_the_verdict_first_and_cuts_nothing():
    said = shown(run())
    assert said.startswith("tofu-forget10: m. It leaks.")
    words = " ".join(said.split())
    assert "forget n = 40" in words
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80
    assert "Time: likelihoods 3.0 s (75%), sampling 1.0 s (25%); together 4.0 s." in words
    assert "When it is sampled" not in shown(run(sampled=False))


def test_markdown_holds_methods_and_checksums():
    text = report.to_markdown(run())
    assert "| forget | probability | 0.250000 | 0.125 to 0.5 | 40 | exact (betting) |" in text
    assert "| f.json | sha256:0 |" in text
    assert all(title in text for title in TITLES)


def test_models_stand_beside_each_other_in_a_terminal_and_below_in_markdown():
    names = tuple(f"model{i}" for i in range(ABREAST + 1))
    table = BenchmarkTable(names, tuple(map(run, names)))
    said = shown(table)
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80
    assert all(name in said for name in (*names, *table.head))
    assert "0.125 to 0.5" not in said
    text = report.to_markdown(table)
    assert sum(line.startswith("| model") for line in text.splitlines()) == 1 + len(names)
    assert "0.25 (0.125 to 0.5)" in text
    assert "needs bounds that hold for all models at once" in text


def test_tasks():
    found = ContinualRun("two [bold]tasks", (run(), run(sampled=False)))
    said = shown(found, width=160)
    assert "two [bold]tasks" in said
    assert "not sampled" in " ".join(said.split())
    text = report.to_markdown(found)
    assert "| 1 | 0.25 (0.125 to 0.5) | not measured |" in text
    assert "| ≤ 0.125 |" in text
