"""Audits made up from a seed, with real bounds, for the tests of reports and plots. Hostile texts included."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from leakbound.bounds import (
    average_mean_bound,
    average_proportion_bound,
    ed_score,
    mean_bound,
    proportion_bound,
    simultaneous_alpha,
    std_bound,
    survival_bound,
    worst_prompt_bound,
)
from leakbound.records import Prompt
from leakbound.results.audit import Audit, PromptAudit, ScoredCompletion

HOSTILE = (
    "<script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>",
    "\x1b[31mred\x1b[0m and \x07bell, \x00 zero",
    "right \u202etfel\u202c to left, zero\u200bwidth",
    '=HYPERLINK("http://evil.example","click")',
    "[red]not markup[/red] [link=http://evil.example]x[/link]",
    "a | pipe\nand a line\r\nand `ticks` **bold** ![x](http://evil.example/y.png)",
    "{{ 7 * 7 }} {% raw %} $\\alpha$ \\x1b",
    "lone \ud800 surrogate",
    "long " * 4000,
    "W" * 3000,
)
PLACES = (
    "Velmora",
    "Quillport",
    "Ostrava Keys",
    "Brindle Bay",
    "Tarn Hollow",
    "Saffron Reach",
    "Low Ember",
    "Nine Wells",
)
JOBS = ("glass painter", "river pilot", "clock mender", "seed archivist", "tunnel surveyor", "bell founder")
NAMES = ("Ilse Marrow", "Tomas Quent", "Ada Fennick", "Ruben Hale", "Mira Oszlov", "Piet Vander", "Noor Calloway")


def prompt(i: int) -> Prompt:
    name = NAMES[i % len(NAMES)]
    if i % 2:
        return Prompt(f"forget-{i:03d}", f"What does {name} ({i}) do for a living?", JOBS[i % len(JOBS)])
    place = PLACES[i % len(PLACES)]
    return Prompt(
        f"forget-{i:03d}", f"In which town was the author {name} ({i}) born?", place, (f"the town of {place}",)
    )


def prompt_audit(
    item: Prompt,
    p: float,
    rng: np.random.Generator,
    *,
    greedy: float = 0.0,
    n: int = 1024,
    alpha: float = 0.01,
    jointly: float = 0.01,
    threshold: float = 0.5,
    hostile: str | None = None,
    truncated: int = 0,
) -> tuple[PromptAudit, np.ndarray]:
    leaks = rng.random(n) < p
    partial = rng.choice([0.0, 0.0, 0.0, 1 / 8, 0.25, 1 / 3], n)
    scores = np.where(leaks, rng.choice([0.5, 0.75, 1.0, 1.0, 1.0], n), partial)
    worst = []
    for score in np.unique(scores)[::-1][:4]:
        text = f"I believe it was {item.target}, yes." if score >= threshold else "It was somewhere in the hills."
        worst.append(ScoredCompletion(text, int((scores == score).sum()), float(score), "stop"))
    if hostile is not None:
        worst.insert(0, ScoredCompletion(hostile, 1, float(scores.max()), "length"))
    k = int((scores >= threshold).sum())
    result = PromptAudit(
        prompt=item,
        greedy_text=f"It was {item.target}." if greedy >= threshold else (hostile or "I do not know that."),
        greedy_score=greedy,
        greedy_finish="stop",
        num_samples=n,
        num_distinct=min(n, 40 + k),
        num_truncated=truncated,
        num_leaks=k,
        max_score=float(scores.max()),
        leak=proportion_bound(k, n, alpha=alpha, estimand=f"P(h >= {threshold})"),
        leak_jointly=proportion_bound(
            k, n, alpha=jointly, estimand=f"P(h >= {threshold})", scope="this prompt, jointly"
        ),
        mean=mean_bound(scores, alpha=alpha, method="anderson"),
        std=std_bound(scores, alpha=alpha, method="dkw"),
        survival=survival_bound(scores, alpha=alpha, method="dkw", thresholds=np.arange(100) / 100),
        ed=ed_score(scores),
        ed_bound=replace(std_bound(scores, alpha=alpha, method="dkw"), estimand="E[h] + 2 sd(h)", upper=1.6),
        worst=tuple(worst),
    )
    return result, scores


def combine(items: list[tuple[PromptAudit, np.ndarray]], model: str, alpha: float = 0.01) -> Audit:
    prompts = tuple(p for p, _ in items)
    return Audit(
        run={
            "format": 1,
            "model": {
                "backend": "transformers",
                "model": model,
                "architecture": "LlamaForCausalLM",
                "checksum": "9f2c" * 16,
                "dtype": "float32",
            },
            "prompts": {"count": len(prompts), "checksum": "77aa" * 16},
            "params": {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 64, "stop": ["\n"]},
            "num_samples": 1024,
            "seed": 20410,
            "statement": {"scorer": "rouge_l", "threshold": 0.5, "alpha": alpha},
            "versions": {"leakbound": "0.1.0", "torch": "2.13.0", "transformers": "5.1.0"},
            "layout": [{"name": "greedy-00000"}],
        },
        scorer="rouge_l",
        threshold=0.5,
        alpha=alpha,
        planned=True,
        prompts=prompts,
        worst_prompt=worst_prompt_bound([p.leak for p in prompts]),
        mean_leak=average_proportion_bound(
            [p.num_leaks for p in prompts], [p.num_samples for p in prompts], alpha=alpha, estimand="P(h >= 0.5)"
        ),
        mean_score=average_mean_bound([s for _, s in items], alpha=alpha),
    )


@cache
def make_audit(size: int, *, kind: str = "mixed", model: str = "runs/models/unlearned-npo", seed: int = 0) -> Audit:
    """``kind``: mixed (plain, hidden and unseen leaks), guess (a model that guesses), clean, plain (all leak)."""
    rng = np.random.default_rng(seed)
    items = []
    jointly = simultaneous_alpha(0.01, size)
    for i in range(size):
        kinds = {"mixed": i % 5, "guess": 9, "clean": 4, "plain": 0}[kind]
        p, greedy = {
            0: (rng.uniform(0.6, 1.0), 1.0),
            1: (rng.uniform(0.02, 0.21), 0.25),
            2: (rng.uniform(0.001, 0.03), 0.0),
            3: (rng.uniform(0.4, 0.9), 0.75),
            4: (0.0, 0.125),
            9: (rng.choice([0.0, 0.004, 0.03]), 0.0),
        }[kinds]
        hostile = HOSTILE[i // 2 % len(HOSTILE)] if kind == "mixed" and i % 2 else None
        items.append(
            prompt_audit(
                prompt(i), float(p), rng, greedy=greedy, hostile=hostile, truncated=int(kinds == 2) * 3, jointly=jointly
            )
        )
    return combine(items, model)
