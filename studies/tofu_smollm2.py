"""TOFU forget01 on SmolLM2-135M: asked once, by the field's metrics, and sampled, beside what guessing reaches.

The model learns all 4,000 questions; another never sees the 40 to be forgotten: what it says is the guess level. Ten
methods, and two of them with a change of ours, unlearn the 40. Then three tasks one after another (arXiv 2410.08109).
With WORKERS=6 in the environment so many commands run at once. The real people of the same paper: real_people.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import DATA, ROOT, Study, at_once, run

LEARN = (
    "--epochs=6",
    "--batch-size=32",
    "--learning-rate=3e-4",
    "--schedule=cosine",
    "--warmup=0.05",
    "--template=qa",
    "--bf16",
)
FORGET = ("--epochs=10", "--batch-size=8", "--learning-rate=5e-5", "--schedule=constant", "--template=qa")
ENTROPY = ("--entropy-forget=1", "--entropy-retain=-0.25", "--entropy-mask=all")
LEAKS = ("--leak-rounds=2", "--leak-samples=64", "--leak-scorer=rouge_l", "--max-tokens=48")
METHODS: dict[str, tuple[str, ...]] = {
    "grad_diff": ("--method=GradDiff", "--forget-weight=0.3"),
    "npo_gd": ("--method=NPO+GD",),
    "npo_kl": ("--method=NPO+KL",),
    "simnpo_gd": ("--method=SimNPO+GD", "--forget-weight=0.1375"),
    "dpo_gd": ("--method=DPO+GD",),
    "idk_gd": ("--method=IDK+GD",),
    "idk_ap": ("--method=IDK+AP",),
    "me_gd": ("--method=ME+GD", "--forget-weight=0.1"),
    "undial_gd": ("--method=UNDIAL+GD",),
    "rmu": ("--method=RMU", "--retain-weight=100"),
    "npo_entropy": ("--method=NPO+GD", *ENTROPY),
    "npo_leak_rounds": ("--method=NPO+GD", *LEAKS),
}
LABELS = {
    "original": "before unlearning",
    "retrained": "retrained without the 40",
    "grad_diff": "GradDiff",
    "npo_gd": "NPO+GD",
    "npo_kl": "NPO+KL",
    "simnpo_gd": "SimNPO+GD",
    "dpo_gd": "DPO+GD",
    "idk_gd": "IDK+GD",
    "idk_ap": "IDK+AP",
    "me_gd": "ME+GD",
    "undial_gd": "UNDIAL+GD",
    "rmu": "RMU",
    "npo_entropy": "NPO+GD, entropy optimisation",
    "npo_leak_rounds": "NPO+GD, two leak rounds",
}


def files(out: Path, small: bool) -> dict[str, Path]:
    """What is learned, forgotten and retained, as files of rows."""
    rows = (DATA / "tofu" / "forget01.json").read_text(encoding="utf-8").splitlines()
    forget = [row for row in rows if json.loads(row)["task_id"] == "1"]
    later = [row for row in rows if json.loads(row)["task_id"] != "1"]
    retain = [*(DATA / "tofu" / "retain90.json").read_text(encoding="utf-8").splitlines(), *later]
    if small:
        retain = retain[:40]
    found = {name: out / f"{name}.jsonl" for name in ("forget", "retain", "full", "asked")}
    step = max(1, len(retain) // 40)
    sets = {"forget": forget, "retain": retain, "full": [*forget, *retain], "asked": retain[::step][:40]}
    for name, some in sets.items():
        found[name].write_text("\n".join(some) + "\n", encoding="utf-8")
    return found


def study(model: str, this: Study) -> None:
    """Train, unlearn and ask; what is there is not done again."""
    out, small = this.out, this.small
    data, models, runs = files(out, small), out / "models", out / "runs"
    draws, retain_draws, tokens = (8, 4, 24) if small else (256, 64, 64)
    methods = dict(list(METHODS.items())[1:3]) if small else METHODS
    learn = (*LEARN, "--max-steps=2") if small else LEARN
    forget = (*FORGET, "--max-steps=2") if small else FORGET
    few = ("--max-questions=8",) if small else ("--max-questions=300",)

    def trained(name: str, *words: object) -> list[Sequence[object]]:
        return [] if (models / name).exists() else [(*words, "--out", models / name)]

    def asked(name: str) -> list[Sequence[object]]:
        reference = () if name == "retrained" else ("--reference", runs / "retrained")
        return [
            ("benchmark", "tofu", "--split=forget01", "--data", DATA / "tofu", "--model", models / name, *reference,
             "--template=qa", *few, f"--max-tokens={tokens}", f"--num-samples={draws}", "--out", runs / name),
            ("audit", models / name, "--prompts", data["asked"], "--template=qa", f"--max-tokens={tokens}",
             f"--num-samples={retain_draws}", "--seed=1", "--out", out / "retain" / name),
        ]  # fmt: skip

    def unlearned(name: str, source: Path, rows: Path, kept: Path, words: Sequence[str], folder: Path) -> Sequence:
        if folder.exists():
            return []
        made = (
            "unlearn",
            "--like=ours",
            "--model",
            source,
            "--forget",
            rows,
            "--retain",
            kept,
            *words,
            *forget,
            "--out",
            folder,
        )
        return [made]

    def learn_both() -> None:
        at_once(
            [
                trained("original", "finetune", "--model", model, "--data", data["full"], *learn),
                trained("retrained", "finetune", "--model", model, "--data", data["retain"], *learn),
            ]
        )

    def forget_all() -> None:
        at_once([asked("retrained")])
        original = models / "original"
        jobs = [asked("original")]
        for name, words in methods.items():
            jobs.append([*unlearned(name, original, data["forget"], data["retain"], words, models / name),
                         *asked(name)])  # fmt: skip
        for name in () if small else ("me_gd", "npo_gd"):
            jobs.append([("benchmark", "tofu", "--split=forget01", "--continual", "--num-tasks=3", "--data",
                          DATA / "tofu", "--model", original, "--template=qa", *few, f"--max-tokens={tokens}",
                          f"--num-samples={draws // 2}", "--sampled-questions=20", *METHODS[name], "--epochs=10",
                          "--batch-size=8", "--learning-rate=5e-5", "--schedule=constant",
                          "--out", out / "continual" / name)])  # fmt: skip
        at_once(jobs)

    for name, part in (("learned", learn_both), ("forgotten", forget_all)):
        try:
            this.part(name, part)
        except RuntimeError as error:
            print(error, file=sys.stderr, flush=True)  # the others are done all the same; run again, it is tried again
    this.part("found", lambda: collected(out))


class Kept:
    """Stands for a model whose answers are all in the folder: of a run that was cut short, what it had asked."""

    tokenizer = None

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described

    def describe(self) -> dict[str, Any]:
        """The model whose answers they are."""
        return self.described

    def sample(self, *_: Any) -> Any:
        """Nothing is drawn."""
        raise LookupError("not all of it was asked")

    answer_likelihoods = sample


def collected(out: Path) -> dict[str, Any]:
    """The figures of all that is there: of a run that was cut short, those models that were asked everything."""
    from leakbound import compare
    from leakbound.evaluating.measuring import measure
    from leakbound.results.audit import Audit
    from leakbound.results.evaluation import Evaluation
    from leakbound.suites.tofu import tofu

    found: dict[str, Any] = {"models": {}, "continual": {}}
    guess = Evaluation.load(out / "runs" / "retrained")
    for name in LABELS:
        folder = out / "runs" / name
        try:
            if (folder / "evaluation.json").exists():
                asked = Evaluation.load(folder)
            else:
                drawn = json.loads((folder / "audit" / "run.json").read_text(encoding="utf-8"))
                asked = measure(
                    Kept(drawn["model"]), tofu("forget01", DATA / "tofu"), max_tokens=drawn["params"]["max_tokens"],
                    max_questions=300, out=folder, progress=False,
                ).evaluation  # fmt: skip
        except (FileNotFoundError, LookupError):
            continue
        metrics = asked.metrics(reference=None if name == "retrained" else guess, alpha=0.01)
        log = json.loads((out / "models" / name / "training.json").read_text(encoding="utf-8"))
        found["models"][name] = {
            "metrics": {f"{m.name}/{m.set}": [m.value, m.lower, m.upper] for m in metrics},
            "seconds": log.get("seconds"),
            "steps": log.get("steps"),
        }
    audits = {n: out / "runs" / n / "audit" for n in LABELS if (out / "runs" / n / "audit" / "audit.json").exists()}
    first = ["retrained", *(n for n in audits if n != "retrained")]  # differences are from the guess level
    found["compared"] = dict(zip(first, compare([audits[n] for n in first]).rows(), strict=True))
    for name in first:
        prompts = Audit.load(audits[name]).prompts
        asked_once, rates = [p.greedy_score for p in prompts], [p.leak_rate for p in prompts]
        found["compared"][name] |= {"asked": asked_once, "rates": rates}
    kept = {n: out / "retain" / n for n in first if (out / "retain" / n / "audit.json").exists()}
    both = compare([audits[n] for n in kept], retain=list(kept.values()))
    for name, row in zip(kept, both.rows(), strict=True):
        found["compared"][name]["sampled_utility"] = row["sampled_utility"]
    found["words"] = dict(zip(first, compare([in_words(out, n, audits[n]) for n in first]).rows(), strict=True))
    for folder in sorted((out / "continual").glob("*/tasks.json")):
        found["continual"][folder.parent.name] = json.loads(folder.read_text(encoding="utf-8"))
    return found


def in_words(out: Path, name: str, audited: Path) -> Path:
    """The same draws under the scorer that counts only words which the question does not give."""
    folder = out / "words" / name
    if not (folder / "audit.json").exists() or not (folder / "scores" / "new_words").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(audited, folder)
        for step in ("score", "bound"):
            line = [sys.executable, "-m", "leakbound", step, str(folder), "--scorer", "new_words"]
            subprocess.run(line, stdout=subprocess.DEVNULL, check=True)
    return folder


def page(found: dict[str, Any]) -> str:
    """The tables, and the sentence that they end in."""
    from leakbound.wording import about

    figures = found["found"]
    compared, models = figures["compared"], figures["models"]
    lines = ["### Sampled", ""]
    lines += [
        "| model | leaks asked once | clean, leaked when sampled | average P(leak) | minus the guess level | "
        "worst prompt | retained, sampled | distinct |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def between(row: dict[str, Any], name: str) -> str:
        lower, upper = row[f"{name}_lower"], row[f"{name}_upper"]
        return "" if lower is None else f"{lower:+.3f} to {upper:+.3f}"

    for name in [name for name in LABELS if name in compared]:
        row = compared[name]
        right = row.get("sampled_utility")
        cells = (
            LABELS[name],
            f"{row['greedy_leaks']} of {row['num_asked']}",
            row["num_hidden"],
            f"{row['mean_leak']:.3f}, ≤ {about(row['mean_leak_upper'])}",
            between(row, "leak_against_first"),
            f"≤ {about(row['worst_prompt_upper'])}",
            "" if right is None else f"{right:.2f}",
            f"{row['distinct']:.2f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "### Sampled, counting only words that the question does not give", ""]
    lines += [
        "| model | leaks asked once | clean, leaked when sampled | average P(leak) | worst prompt |",
        "|---" * 5 + "|",
    ]
    for name in [name for name in LABELS if name in figures["words"]]:
        row = figures["words"][name]
        lines.append(
            f"| {LABELS[name]} | {row['greedy_leaks']} of {row['num_asked']} | {row['num_hidden']} | "
            f"{row['mean_leak']:.4f}, ≤ {about(row['mean_leak_upper'])} | ≤ {about(row['worst_prompt_upper'])} |"
        )
    asked = {
        "model utility": "model_utility/", "forget quality (p)": "forget_quality/forget",
        "forget ROUGE-L": "rouge_l_recall/forget", "forget probability": "probability/forget",
        "extraction strength": "extraction_strength/forget", "retain ROUGE-L": "rouge_l_recall/retain",
        "authors ROUGE-L": "rouge_l_recall/real_authors", "facts ROUGE-L": "rouge_l_recall/world_facts",
    }  # fmt: skip
    lines += [
        "",
        "### Asked once",
        "",
        f"| model | {' | '.join(asked)} | steps, seconds |",
        "|---" * (len(asked) + 2) + "|",
    ]
    for name in [name for name in LABELS if name in models]:
        cells = [_cell(models[name]["metrics"].get(key)) for key in asked.values()]
        cost = models[name]
        spent = "" if cost["seconds"] is None else f"{cost['steps']}, {cost['seconds']:.0f} s"
        lines.append(f"| {LABELS[name]} | {' | '.join(cells)} | {spent} |")
    if figures["continual"]:
        lines += ["", "### One task after another", "", *_continual(figures["continual"])]
    return "\n".join([*lines, "", _verdict(compared)])


def _cell(metric: list[float | None] | None) -> str:
    from leakbound.wording import about

    if metric is None or metric[0] is None:
        return ""
    value, lower, upper = metric
    return about(value) if lower is None or upper is None else f"{about(value)} ({about(lower)} to {about(upper)})"


def _continual(found: dict[str, Any]) -> list[str]:
    return [f"`{name}`: {json.dumps(tasks)[:400]}" for name, tasks in found.items()]


def _verdict(compared: dict[str, Any]) -> str:
    others = {name: row for name, row in compared.items() if name in METHODS}
    most = max(others, key=lambda name: others[name]["num_hidden"])
    row, hidden = others[most], sum(bool(row["num_hidden"]) for row in others.values())
    above = [LABELS[n] for n, row in others.items() if (row["leak_against_first_lower"] or 0) > 0]
    said = (
        f"the average P(leak) of {', '.join(above)} is proven above that of a model that never saw the answers"
        if above
        else "for none of them the average P(leak) is proven above that of a model that never saw the answers (of "
        f"{LABELS[most]} minus it: {row['leak_against_first_lower']:+.3f} to {row['leak_against_first_upper']:+.3f})"
    )
    clean = row["num_asked"] - row["greedy_leaks"]
    return (
        f"**The claim that questions look clean when asked once and leak when sampled holds for {hidden} of "
        f"{len(others)} sampled methods ({LABELS[most]}: {row['num_hidden']} of {clean} questions that looked clean), "
        f"but {said}.**"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "studies"))
    run(study, page, "tofu_smollm2")
