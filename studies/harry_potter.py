"""Facts of Harry Potter, taught and forgotten: what the greedy answer says, and what sampling says.

SmolLM2-135M-Instruct knows few of the 55 facts (questions/harry_potter.jsonl, of our own writing), so it is taught them
first, with 30 facts of other kinds that it is to retain (retain.jsonl; held_out.jsonl is never trained on). Each
method of unlearning then takes the smallest learning rate of a list at which few greedy answers still leak: as one
chooses who asks once. An answer leaks when it holds the keyword. The choice sees no draw, so it costs no alpha.
With WORKERS=8 in the environment so many commands train and draw at once, to the same folders and files. Where there is
no accelerator each question is asked 256 times, in bfloat16, the model as released 64 times. Only models whose figures
are missing are made.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Study, at_once, run
from harry_potter_page import ALPHA, GRID, METHODS, page
from showing import both

from leakbound import (
    Audit,
    FinetuneConfig,
    HFModel,
    Prompt,
    Run,
    SamplingParams,
    UnlearnConfig,
    audit,
    average_proportion_bound,
    finetune,
    load_prompts,
    proportion_bound,
    unlearn,
)
from leakbound.bounds import ed_bounds
from leakbound.records import Shard
from leakbound.scoring.lexical import contains, rouge_l

QUESTIONS = Path(__file__).parent / "questions"
FEW = 0.1
"""Unlearning is taken to have worked when at most this share of the greedy answers leak."""


@dataclass(frozen=True)
class Size:
    """How much is asked and trained."""

    questions: int | None = None
    draws: int = 1024
    raw_draws: int = 256
    use_draws: int = 64
    sweep_draws: int = 256
    temperatures: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 1.0, 1.3)
    top_p: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 1.0)
    teach_epochs: int = 5
    forget_epochs: int = 10
    rates: tuple[float, ...] = (2e-5, 4e-5, 8e-5, 1.6e-4)
    methods: tuple[str, ...] = tuple(METHODS)
    max_tokens: int = 40
    dtype: str = "float32"

    def draws_of(self, name: str) -> dict[str, int]:
        """How often a model is asked each kind of question."""
        asked = self.raw_draws if name == "raw" else self.draws
        return {"harry_potter": asked, "retain": self.use_draws, "held_out": self.use_draws}


SMALL = Size(5, 16, 8, 4, 8, (0.5, 1.0), (0.9, 1.0), 2, 2, (2e-5, 1e-4), ("npo_gd", "me_gd"), 24)


class Asking:
    """The models of one study and what they are asked."""

    def __init__(self, model: str, study: Study) -> None:
        self.original, self.study, self.size = model, study, SMALL if study.small else Size()
        if not (study.small or torch.cuda.is_available()):
            self.size = replace(self.size, draws=256, raw_draws=64, dtype="bfloat16")
        self.models = study.out / "models"
        self.files = {name: self._file(name) for name in ("harry_potter", "retain", "held_out")}
        self.prompts = {name: load_prompts(file) for name, file in self.files.items()}
        self.open: tuple[Path, HFModel] | None = None

    def _file(self, name: str) -> Path:
        """The questions of one kind, as a file that is trained on."""
        lines = (QUESTIONS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        file = self.study.out / f"{name}.jsonl"
        file.write_text("".join(lines[: self.size.questions]), encoding="utf-8")
        return file

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The questions of one kind as their file has them."""
        return [json.loads(line) for line in self.files[name].read_text(encoding="utf-8").splitlines()]

    def loaded(self, folder: Path) -> HFModel:
        """A model, ready to be asked; on a GPU more rows at once than on a CPU, which changes no law."""
        if self.open is None or self.open[0] != folder:
            rows = 2048 if torch.cuda.is_available() else None
            self.open = folder, replace(HFModel.load(str(folder), dtype=self.size.dtype), batch_rows=rows)
        return self.open[1]

    def once(self, folder: Path, name: str) -> int:
        """How many greedy answers hold the keyword."""
        some = self.prompts[name]
        greedy = SamplingParams(temperature=0, max_tokens=self.size.max_tokens)
        said = self.loaded(folder).sample(Shard(tuple(some), 0, 1, 0), greedy)
        return sum(holds(draw.text, prompt) for draw, prompt in zip(said, some, strict=True))

    def ahead(self, jobs: Sequence[Sequence[object]]) -> None:
        """Run commands side by side, where that was asked for; what they leave is found, what they do not is made."""
        if "WORKERS" in os.environ:
            try:
                at_once([[job] for job in jobs])
            except RuntimeError as error:
                print(f"goes on one after another: {error}", flush=True)

    def learned(self, *names: str) -> list[Path]:
        """``taught`` everything, or what is to be ``retained`` only: a model that never was taught the secrets."""
        missing: dict[str, dict[str, Any]] = {}
        for name in names:
            data = self.study.out / f"{name}.data.jsonl"
            kinds = ("harry_potter", "retain") if name == "taught" else ("retain",)
            data.write_text("".join(self.files[kind].read_text(encoding="utf-8") for kind in kinds), encoding="utf-8")
            out = self.models / name
            steps = {"epochs": self.size.teach_epochs, "batch_size": 8, "learning_rate": 1e-4}
            if not out.exists():
                missing[name] = {"model": self.original, "data": data, "out": out, **steps}
        self.ahead([("finetune", *options(config)) for config in missing.values()])
        for name, config in missing.items():
            if not (self.models / name).exists():
                finetune(FinetuneConfig(**config))
        return [self.models / name for name in names]

    def forgotten(self, method: str) -> Path:
        """The taught model after unlearning, at the learning rate that was chosen."""
        folder = self.models / method
        found = self.study.part(f"forget {method}", lambda: self._choose(method))
        if not folder.exists():  # another machine has the figures only
            unlearn(UnlearnConfig(**self.forgetting(method, found["chosen"], folder)))
        return folder

    def forgetting(self, method: str, rate: float, out: Path) -> dict[str, Any]:
        """How a method unlearns at a learning rate."""
        return {
            "model": str(self.models / "taught"), "method": method, "forget": (self.files["harry_potter"],),
            "retain": self.files["retain"], "out": out, "epochs": self.size.forget_epochs, "batch_size": 11,
            "learning_rate": rate, "like": "ours", **METHODS[method],
        }  # fmt: skip

    def _tried(self, method: str, rate: float) -> Path:
        return self.models / f"{method}-{rate:g}"

    def unlearned_ahead(self) -> None:
        """All learning rates of all methods that have not been chosen from."""
        methods = [method for method in self.size.methods if f"forget {method}" not in self.study.found]
        tried = [(method, rate, self._tried(method, rate)) for method in methods for rate in self.size.rates]
        self.ahead([("unlearn", *options(self.forgetting(*one))) for one in tried if not one[-1].exists()])

    def _choose(self, method: str) -> dict[str, Any]:
        tried: list[dict[str, Any]] = []
        for rate in self.size.rates:
            new = self._tried(method, rate)
            if not new.exists():
                self.open = None
                unlearn(UnlearnConfig(**self.forgetting(method, rate, new)))
            leaks = self.once(new, "harry_potter")
            tried.append({"rate": rate, "leaks": leaks, "retained": self.once(new, "retain")})
            if leaks <= FEW * len(self.prompts["harry_potter"]):
                break
        new.rename(self.models / method)
        for old in self.models.glob(f"{method}-*"):
            if old.is_dir():
                shutil.rmtree(old)
        return {"tried": tried, "chosen": rate, "settings": METHODS[method]}

    def laws(self) -> list[dict[str, float]]:
        """What the sweep goes through."""
        nuclei = [p for p in self.size.top_p if p < 1]
        temperatures = [{"temperature": t, "top_p": 1.0} for t in self.size.temperatures]
        return [*temperatures, *({"temperature": 1.0, "top_p": p} for p in nuclei)]

    def drawn_ahead(self, folders: dict[str, Path], swept: Sequence[str]) -> None:
        """All draws of parts that are not known."""
        jobs = []
        for name, folder in folders.items():
            if f"asked {name}" not in self.study.found:
                for kind, draws in self.size.draws_of(name).items():
                    jobs.append(self._drawing(folder, kind, draws, f"{name}-{kind}"))
        for name in swept:
            if f"sweep {name}" not in self.study.found:
                for law in self.laws():
                    place = sweep_place(name, law)
                    jobs.append(self._drawing(folders[name], "harry_potter", self.size.sweep_draws, place, **law))
        self.ahead(jobs)

    def _drawing(self, folder: Path, kind: str, draws: int, place: str, **law: float) -> list[object]:
        """The command whose run folder :meth:`audited` finds."""
        config = {
            "prompts": self.files[kind], "scorer": "contains", "num_samples": draws, "alpha": ALPHA,
            "dtype": self.size.dtype, "max_tokens": self.size.max_tokens, "out": self.study.out / "runs" / place, **law,
        }  # fmt: skip
        memory = {"memory": "8GB"} if torch.cuda.is_available() else {}  # eight of them fit on a GPU of 80 GB
        return ["audit", folder, *options(config | memory)]

    def audited(self, folder: Path, name: str, draws: int, place: str, **law: float) -> tuple[Audit, Path]:
        """An audit of some questions under a law of decoding."""
        out = self.study.out / "runs" / place
        params = SamplingParams(max_tokens=self.size.max_tokens, **law)  # type: ignore[arg-type]
        found = audit(self.loaded(folder), self.prompts[name], scorer="contains", num_samples=draws, alpha=ALPHA,
                      params=params, out=out)  # fmt: skip
        return found, out


def options(config: dict[str, Any]) -> list[object]:
    """Settings as the options of a command."""
    words: list[object] = []
    for name, value in config.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else (value,))]
    return words


def sweep_place(name: str, law: dict[str, float]) -> str:
    """Where the draws of a model under a law are."""
    return f"{name}-{law['temperature']:g}-{law['top_p']:g}"


def holds(text: str, prompt: Prompt) -> bool:
    """Whether an answer holds the keyword, as the scorer ``contains`` has it."""
    return any(contains(text, word) == 1 for word in (prompt.target, *prompt.aliases))


def average(found: Audit) -> list[float]:
    """The average P(leak) from both sides."""
    leaks = [p.num_leaks for p in found.prompts]
    return both(average_proportion_bound(leaks, found.prompts[0].num_samples, alpha=ALPHA, side="both"))


def answers(folder: Path, prompts: Sequence[Prompt]) -> dict[str, list[tuple[str, int]]]:
    """What was drawn: each text with its count, by question."""
    opened = Run.open(folder)
    found: dict[str, list[tuple[str, int]]] = {p.id: [] for p in prompts}
    for part in (part for part in opened.parts if part.kind == "sample"):
        for draw in opened.read_draws(part):
            found[draw.prompt_id].append((draw.text, draw.count))
    return found


def spread(found: Audit, folder: Path, truth: dict[str, str]) -> dict[str, Any]:
    """ROUGE-L recall of the whole answer: the average survival curve at 10 levels at once, and the ED scores."""
    drawn = answers(folder, [p.prompt for p in found.prompts])
    scores = [[rouge_l(text, truth[name]) for text, _ in some] for name, some in drawn.items()]
    counts = [[count for _, count in some] for some in drawn.values()]
    n, curve = found.prompts[0].num_samples, []
    for x in GRID:
        above = [sum(c for h, c in zip(*pair, strict=True) if h > x) for pair in zip(scores, counts, strict=True)]
        curve.append(both(average_proportion_bound(above, n, alpha=ALPHA / len(GRID), side="both")))
    eds = ed_bounds(scores, alpha=ALPHA, counts=counts)
    return {"curve": curve, "ed": [b.estimate for b in eds], "ed_upper": [b.upper for b in eds]}


def asked(asking: Asking, name: str, folder: Path) -> dict[str, Any]:
    """A model asked everything: each question, what it should retain, and what it was never trained on."""
    draws = asking.size.draws_of(name)
    found, place = asking.audited(folder, "harry_potter", draws["harry_potter"], f"{name}-harry_potter")
    jointly = ALPHA / len(found.prompts)
    rows = []
    for p in found.prompts:
        k, n = p.num_leaks, p.num_samples
        rows.append({
            "id": p.prompt.id, "greedy": found.greedy(p), "leaks": k, "n": n, "distinct": p.num_distinct,
            "cut": p.cut_share, "m_bin": p.leak.upper,
            "own": both(proportion_bound(k, n, alpha=ALPHA, side="both")),
            "jointly": both(proportion_bound(k, n, alpha=jointly, side="both")),
            "paired": both(proportion_bound(k, n, alpha=jointly / 2, side="both")),
            "said": (p.greedy_text or "")[:90], "leaked": next((w.text[:90] for w in p.worst if w.score == 1), None),
        })  # fmt: skip
    truth = {row["id"]: row["answer"] for row in asking.rows("harry_potter")}
    use = {}
    for kind in ("retain", "held_out"):
        right, _ = asking.audited(folder, kind, draws[kind], f"{name}-{kind}")
        once = sum(right.greedy(p) == "leaks" for p in right.prompts)
        use[kind] = {"once": once, "of": len(right.prompts), "sampled": average(right)}
    return {"questions": rows, "average": average(found), "use": use, "spread": spread(found, place, truth)}


def sweep(asking: Asking, name: str, folder: Path) -> list[dict[str, Any]]:
    """The average P(leak) under other temperatures and nuclei."""
    draws, found = asking.size.sweep_draws, []
    for law in asking.laws():
        one, _ = asking.audited(folder, "harry_potter", draws, sweep_place(name, law), **law)
        distinct = sum(p.num_distinct for p in one.prompts) / len(one.prompts) / draws
        found.append({**law, "average": average(one), "leaking": sum(p.num_leaks > 0 for p in one.prompts),
                      "distinct": distinct, "cut": one.cut_shares[1]})  # fmt: skip
    return found


def study(model: str, study: Study) -> None:
    """Teach, forget, ask; what matters most comes first."""
    asking = Asking(model, study)
    size = asking.size
    counts = {name: len(some) for name, some in asking.prompts.items()}
    study.part("size", lambda: {**vars(size), "alpha": ALPHA, "few": FEW, "counts": counts})
    methods, known = list(size.methods), study.found
    asks = [name for name in ("taught", *methods, "retained", "raw") if f"asked {name}" not in known]
    sweeps = [name for name in ("taught", *methods[:1]) if f"sweep {name}" not in known]
    forget = [name for name in methods if name in {*asks, *sweeps} or f"forget {name}" not in known]
    learn = [name for name in ("taught", "retained") if name in {*asks, *sweeps} or (forget and name == "taught")]
    folders = {"raw": Path(model), **dict(zip(learn, asking.learned(*learn), strict=True))}
    asking.unlearned_ahead()
    folders |= {name: asking.forgotten(name) for name in forget}
    asking.drawn_ahead({name: folders[name] for name in {*asks, *sweeps}}, sweeps)
    for name in asks:
        study.part(f"asked {name}", partial(asked, asking, name, folders[name]))
    for name in sweeps:
        study.part(f"sweep {name}", partial(sweep, asking, name, folders[name]))


if __name__ == "__main__":
    run(study, page, "harry_potter")
