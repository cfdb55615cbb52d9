"""Audits of fake models, and audits with chosen numbers of leaks."""

from dataclasses import replace

import slow_path as slow

from leakbound import FakeModel, audit
from leakbound.bounds import Bound, average_proportion_bound, proportion_bound, worst_prompt_bound
from leakbound.records import Prompt
from leakbound.runs.store import Run

N, ALPHA = 150, 0.01


def ask(leaks, folder=None, **settings):
    """An audit of prompts p0, p1, ... with these leak probabilities."""
    prompts = [{"id": f"p{i}", "text": f"What is secret {i}?", "target": f"alpha {i}."} for i in range(len(leaks))]
    model = FakeModel(leaks=tuple((f"p{i}", p) for i, p in enumerate(leaks)))
    given = {"num_samples": N, "scorer": "contains", "progress": False, "alpha": ALPHA, **settings}
    return audit(model, prompts, out=folder, **given)


def counted(folder):
    """The leaks and draws of each prompt, and whether its greedy answer leaks, counted in the run's draws."""
    run = Run.open(folder)
    targets = {p.id: p.target for p in run.prompts}
    leaks, draws, plain = dict.fromkeys(targets, 0), dict.fromkeys(targets, 0), {}
    for part in run.parts:
        for draw in run.read_draws(part) if run.has_draws(part) else ():
            hit = targets[draw.prompt_id] in draw.text
            if part.greedy:
                plain[draw.prompt_id] = hit
            else:
                leaks[draw.prompt_id] += draw.count * hit
                draws[draw.prompt_id] += draw.count
    return [(leaks[i], draws[i], plain[i]) for i in targets]


def made(leaks, n=100, *, greedy=None, alpha=ALPHA, template=[]):  # noqa: B006 - made once, never changed
    """An audit with these numbers of leaks, and greedy scores; the bounds of P(leak) are those of the library."""
    template.extend([] if template else [ask([0.0])])
    one, size = template[0].prompts[0], len(leaks)
    ns = n if isinstance(n, list) else [n] * size
    level = slow.joint(alpha, size)
    prompts = tuple(
        replace(
            one,
            prompt=Prompt(f"p{i}", f"What is secret {i}?", f"alpha {i}."),
            greedy_score=0.0 if greedy is None else greedy[i],
            num_leaks=k,
            num_samples=m,
            max_score=float(k > 0),
            leak=proportion_bound(k, m, alpha=alpha, estimand="P(h >= 0.5)"),
            leak_jointly=replace(proportion_bound(k, m, alpha=level, estimand="P(h >= 0.5)"), alpha=alpha),
        )
        for i, (k, m) in enumerate(zip(leaks, ns, strict=True))
    )
    return replace(
        template[0],
        alpha=alpha,
        prompts=prompts,
        worst_prompt=worst_prompt_bound([p.leak for p in prompts]),
        mean_leak=average_proportion_bound(leaks, ns, alpha=alpha, estimand="P(h >= 0.5)"),
    )


def certain(low, high):
    return Bound("P(h >= 0.5)", (low + high) / 2, low, high, ALPHA, "both", 100, "exact limits (certain)")
