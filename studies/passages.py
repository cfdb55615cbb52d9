"""Memorised texts: how often the model goes on as the text does, asked once and sampled.

44 openings that many people know by heart, and 10 sentences of our own writing that no model can have read
(questions/passages.jsonl). The model continues the opening as it is, without a chat. P(the completion begins with the
true continuation) is exact, from one teacher-forced pass, for each law of decoding; "near" allows a tenth of the tokens
to be edited: a beam gives a certain lower limit, 1,536 draws give limits on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Study, run
from passages_page import ALPHA, LAWS, OWN, page
from showing import both

from leakbound import HFModel, Prompt, Run, SamplingParams, certify, load_prompts, proportion_bound
from leakbound.auditing.certifying import NEAR
from leakbound.models.hf.loading import load_model, load_tokenizer
from leakbound.models.hf.search import edit_row
from leakbound.records import Shard

FILE = Path(__file__).parent / "questions" / "passages.jsonl"
MAX_TOKENS = 32


@dataclass(frozen=True)
class Size:
    """How much is asked: of the passages, of the controls, and how often."""

    passages: int | None = None
    controls: int | None = None
    draws: int = 1536


SMALL = Size(5, 2, 32)


class Asking:
    """The model and the passages."""

    def __init__(self, model: str, study: Study) -> None:
        self.study, self.size = study, SMALL if study.small else Size()
        rows = 2048 if torch.cuda.is_available() else None
        weights = load_model(model, dtype="float32")
        tokenizer = load_tokenizer(model)
        self.box = HFModel(weights, tokenizer, template="{text}{answer}", name=Path(model).name, batch_rows=rows)
        everything = load_prompts(FILE)
        known = [p for p in everything if not p.id.startswith(OWN)]
        own = [p for p in everything if p.id.startswith(OWN)]
        self.prompts = (*known[: self.size.passages], *own[: self.size.controls])
        self.targets = [self.box.target_tokens(p, p.target) for p in self.prompts]

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


def certified(asking: Asking) -> list[dict[str, Any]]:
    """What `leakbound certify` proves at temperature 1, and what its independent draws say of each beginning."""
    params = SamplingParams(max_tokens=MAX_TOKENS)
    out = asking.study.out / "certify"
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
    sources = [described(p) for p in asking.prompts]
    return {"draws": asking.size.draws, "max_tokens": MAX_TOKENS, "passages": [
        {"id": p.id, "source": source, "tokens": len(z), "near": asking.near(i)}
        for i, (p, source, z) in enumerate(zip(asking.prompts, sources, asking.targets, strict=True))
    ]}  # fmt: skip


def described(prompt: Prompt) -> str:
    """Where a passage is from."""
    import json

    rows = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return next(str(row["source"]) for row in rows if row["id"] == prompt.id)


def study(model: str, study: Study) -> None:
    """Ask once, read the exact probabilities, draw."""
    asking = Asking(model, study)
    for name, compute in (("about", about), ("once", asked_once), ("exact", exact), ("certified", certified)):
        study.part(name, partial(compute, asking))


if __name__ == "__main__":
    run(study, page, "passages")
