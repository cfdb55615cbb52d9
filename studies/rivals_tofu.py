"""The rivals on a pretrained model: SmolLM2-135M learns 200 questions of TOFU and forgets the 40 of forget01.

    SMOLLM2=MODEL OMP_NUM_THREADS=1 python studies/rivals_tofu.py --out runs/rivals_tofu --seeds 3
    python studies/rivals_tofu.py --page studies/results/rivals_tofu

MODEL: SmolLM2-135M-Instruct as a folder. 40 questions to forget and 160 to retain, six epochs; every rival gets the
same 100 optimiser steps of 8 + 8 rows, twenty epochs, and twelve of the 40 questions are asked, in bfloat16. An answer
leaks where it holds half of the target's words that the question does not give.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

from common import DATA
from rivals import ALPHA, Seed, main

from leakbound import Prompt, SamplingParams

NPO: dict[str, Any] = {"method": "npo_gd", "beta": 0.05}
LEAKS: dict[str, Any] = {"leak_samples": 16, "leak_scorer": "new_words"}


def entropy(weight: float, mask: str) -> dict[str, Any]:
    """Entropy optimisation: the published ratio of its two weights, less certain on what is retained."""
    return {"entropy_forget": weight, "entropy_retain": -abs(weight) / 4, "entropy_mask": mask}


class Tofu(Seed):
    """SmolLM2 and TOFU's forget01."""

    name = "rivals_tofu"
    steps, draws, again, deeper = 100, 128, 64, 768
    retain_prompts, retain_draws, retained = 20, 16, 160
    dtype = "bfloat16"
    scorer, template = "new_words", "qa"
    params = SamplingParams(max_tokens=48)
    learning: ClassVar[dict[str, Any]] = {
        "model": os.environ.get("SMOLLM2", ""), "epochs": 6, "batch_size": 8, "learning_rate": 3e-4,
        "schedule": "cosine", "warmup": 0.05, "bf16": True,
    }  # fmt: skip
    usual: ClassVar[dict[str, Any]] = {
        "learning_rate": 2e-5, "schedule": "constant", "batch_size": 8, "on_collapse": "ignore", "max_tokens": 48,
        "bf16": True,
    }  # fmt: skip
    rivals: ClassVar[dict[str, dict[str, Any]]] = {
        "NPO+GD": NPO,
        "NPO+GD, leak rounds": {**NPO, **LEAKS, "leak_rounds": 2},
        "--until": {**NPO, **LEAKS},
        "--until, 144 steps": {**NPO, **LEAKS, "max_steps": 144, "rounds": 11},
        "SimNPO+GD": {"method": "simnpo_gd", "forget_weight": 0.1375},
        "NPO+GD, entropy 1, padded": {**NPO, **entropy(1.0, "all"), "pad_to": 256},
        "UNDIAL+GD": {"method": "undial_gd"},
        "NPO+GD, entropy 1/4, padded": {**NPO, **entropy(0.25, "all"), "pad_to": 256},
        "ME+GD": {"method": "me_gd", "forget_weight": 0.1},
        "IDK+AP": {"method": "idk_ap"},
        "NPO+GD, entropy 1/4, unsaid": {**NPO, **entropy(0.25, "unsaid")},
        "leak_mass+GD": {"method": "leak_mass_gd", **LEAKS, "leak_every": 5},
        "PMC": {"method": "pmc"},
        "GRPO+GD": {"method": "grpo_gd", "leak_every": 5, "leak_scorer": "new_words"},
        "NPO+GD, entropy -1/4, padded": {**NPO, **entropy(-0.25, "all"), "pad_to": 256},
        "NPO+GD, entropy 1/4, clean": {**NPO, **entropy(0.25, "clean")},
        "NPO, entropy 1, padded": {**NPO, "method": "npo", **entropy(1.0, "all"), "pad_to": 256},
    }
    """Entropy optimisation as published, over all positions of 256, with a quarter of its weights, the other way round,
    with our masks, and without a term on what should be retained; leak rounds and --until have NPO's settings."""
    goal: ClassVar[dict[str, Any]] = {
        "until": "leak<=0.01", "of": "average", "keep": "known>=0.8", "rounds": 7, "alpha": ALPHA,
        "proof_samples": 128, "keep_samples": 32, "keep_questions": 20,
    }  # fmt: skip

    def asked(self) -> tuple[dict[str, Path], list[Prompt], list[Prompt]]:
        """40 rows of forget01 and the first 160 of the others, and which of them are asked."""
        names = {"forget": "forget01.json", "retain": "retain90.json"}
        rows = {name: (DATA / "tofu" / file).read_text(encoding="utf-8").splitlines() for name, file in names.items()}
        sets = {
            "forget": [row for row in rows["forget"] if json.loads(row)["task_id"] == "1"],
            "retain": rows["retain"][: 16 if self.small else self.retained],
        }
        sets["full"] = [*sets["forget"], *sets["retain"]]
        files = {name: self.root / "world" / f"{name}.jsonl" for name in sets}
        for name, some in sets.items():
            files[name].parent.mkdir(parents=True, exist_ok=True)
            files[name].write_text("\n".join(some) + "\n", encoding="utf-8")

        def prompts(name: str, count: int) -> list[Prompt]:
            some = [json.loads(row) for row in sets[name]]
            some = some[:: max(1, len(some) // count)][:count]
            return [Prompt(f"{name}-{i:02d}", row["question"], row["answer"]) for i, row in enumerate(some)]

        return files, prompts("forget", 12), prompts("retain", self.retain_prompts)


if __name__ == "__main__":
    main(Tofu)
