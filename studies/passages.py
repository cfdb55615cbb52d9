"""Memorised texts: how often the model goes on as the text does, asked once and sampled.

44 openings that many people know by heart, and 10 sentences of our own writing that no model can have read
(questions/passages.jsonl). The model continues the opening as it is, without a chat. P(the completion begins with the
true continuation) is exact, from one teacher-forced pass, for each law of decoding; "near" allows a tenth of the tokens
to be edited: a beam gives a certain lower limit, 1,536 draws give limits on both sides. As released the model knows
hardly any by heart; so the same is asked after it has read the 44 passages once, twice, ... more.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Study, run
from passages_page import ALPHA, LAWS, OWN, page
from showing import both

from leakbound import FinetuneConfig, HFModel, Run, SamplingParams, certify, finetune, load_prompts, proportion_bound
from leakbound.auditing.certifying import NEAR
from leakbound.models.hf.search import edit_row
from leakbound.records import Shard

FILE = Path(__file__).parent / "questions" / "passages.jsonl"
MAX_TOKENS = 32
TEMPLATE = "{text}{answer}"
"""The bare text; the continuation has its own blank."""


@dataclass(frozen=True)
class Size:
    """How much is asked: of the passages, of the controls, and how often."""

    passages: int | None = None
    controls: int | None = None
    draws: int = 1536
    readings: tuple[int, ...] = (0, 1, 2, 4)
    drawn: tuple[int, ...] = (0, 2)
    """After so many readings draws are made as well."""


SMALL = Size(5, 2, 32, (0, 2), (2,))


class Asking:
    """The passages, and the model after so many readings of them."""

    def __init__(self, model: str, study: Study) -> None:
        self.study, self.size, self.original = study, SMALL if study.small else Size(), model
        everything = load_prompts(FILE)
        known = [p for p in everything if not p.id.startswith(OWN)]
        own = [p for p in everything if p.id.startswith(OWN)]
        self.prompts = (*known[: self.size.passages], *own[: self.size.controls])
        self.read(0)
        self.targets = [self.box.target_tokens(p, p.target) for p in self.prompts]

    def read(self, times: int) -> None:
        """The model that has read the passages, not the controls, so many times more."""
        folder = self.study.out / "models" / f"{times}"
        if times and not folder.exists():
            data = self.study.out / "read.jsonl"
            known = [p for p in self.prompts if not p.id.startswith(OWN)]
            rows = [{"question": p.text, "answer": p.target} for p in known]
            data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            finetune(FinetuneConfig(model=self.original, data=data, out=folder, template=TEMPLATE, epochs=times,
                                    batch_size=11, learning_rate=1e-5, schedule="constant"))  # fmt: skip
        name = str(folder) if times else self.original
        most = 2048 if torch.cuda.is_available() else None
        self.box = replace(HFModel.load(name, template=TEMPLATE, dtype="float32"), batch_rows=most)

    def edits(self, tokens: tuple[int, ...], i: int) -> int:
        """How many token edits a completion's beginning is from the true continuation, at its length."""
        target = np.array(self.targets[i])
        return int(edit_row(np.array(tokens[: len(target)], dtype=np.int64), target)[-1])

    def near(self, i: int) -> int:
        """So many edits still count as near."""
        return math.floor(NEAR * len(self.targets[i]))


def asked_once(asking: Asking) -> list[dict[str, Any]]:
    """What greedy decoding says."""
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
    found = asking.box.generations(Shard(asking.prompts, 0, 1, 0), params)
    return [{"edits": asking.edits(g.tokens[: g.num_tokens], i), "text": g.text[:160]} for i, (g,) in enumerate(found)]


def exact(asking: Asking) -> dict[str, list[float | None]]:
    """log P(begins with the continuation) under each law; None where it never does."""
    found = {}
    for name, law in LAWS.items():
        params = SamplingParams(max_tokens=MAX_TOKENS, **law)
        logps = asking.box.logprobs(asking.prompts, asking.targets, params)
        found[name] = [min(0.0, float(x)) if math.isfinite(x) else None for x in logps]
    return found


def certified(asking: Asking, times: int) -> list[dict[str, Any]]:
    """What `leakbound certify` proves at temperature 1, and what its independent draws say of each beginning."""
    params = SamplingParams(max_tokens=MAX_TOKENS)
    out = asking.study.out / f"certify-{times}"
    found = certify(asking.box, asking.prompts, scorer="contains", threshold=1.0, num_generations=asking.size.draws,
                    alpha=ALPHA, params=params, engine="iid", out=out)  # fmt: skip
    opened = Run.open(out)
    files = sorted(file.stem for file in (out / "facts").glob("*.json"))
    facts = {fact["id"]: fact for name in files for fact in opened.read_facts(name)}
    rows = []
    for i, one in enumerate(found.prompts):
        drawn = facts[one.prompt.id]["generations"]
        edits = [asking.edits(tuple(g["tokens"][: g["num_tokens"]]), i) for g in drawn]
        n = sum(g["count"] for g in drawn)
        counts = {
            "verbatim": sum(g["count"] for g, e in zip(drawn, edits, strict=True) if e == 0),
            "near": sum(g["count"] for g, e in zip(drawn, edits, strict=True) if e <= asking.near(i)),
        }
        jointly = ALPHA / len(asking.prompts)
        limits = {
            f"{name} jointly": both(proportion_bound(k, n, alpha=jointly, side="both")) for name, k in counts.items()
        }
        rows.append({
            "n": n, **counts, **limits, "near at least": one.near_verbatim.lower, "entropy": one.entropy,
            "contains": both(one.leak),
        })  # fmt: skip
    return rows


def about(asking: Asking) -> dict[str, Any]:
    """What was asked."""
    rows = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    sources = {row["id"]: row["source"] for row in rows}
    passages = [
        {"id": p.id, "source": sources[p.id], "tokens": len(z), "near": asking.near(i)}
        for i, (p, z) in enumerate(zip(asking.prompts, asking.targets, strict=True))
    ]
    return {**vars(asking.size), "passages": passages, "max_tokens": MAX_TOKENS}


def study(model: str, study: Study) -> None:
    """Ask once and read the exact probabilities after each number of readings; then draw."""
    asking = Asking(model, study)
    study.part("about", partial(about, asking))
    for times in asking.size.readings:
        asking.read(times)
        study.part(f"once {times}", partial(asked_once, asking))
        study.part(f"exact {times}", partial(exact, asking))
    for times in asking.size.drawn:
        asking.read(times)
        study.part(f"certified {times}", partial(certified, asking, times))


if __name__ == "__main__":
    run(study, page, "passages")
