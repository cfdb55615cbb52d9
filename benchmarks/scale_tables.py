"""The tables of docs/scale.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scale_cost import H100, LLAMA_8B, Law
from scale_crew import Driver, Outcome, on_paper, simulate
from scale_plan import DRAWS, LATENCY, LOAD, MORE_ROWS, MTBF, PROMPTS, WORKERS, Plan
from scipy.optimize import nnls

EVERYTHING = ("writes", "known", "files")
"""What the driver does."""


def table(heads: str, rows: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    names = heads.split("|")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def short(value: float) -> str:
    """Three digits, thousands set apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def checked(found: list[dict[str, Any]]) -> tuple[str, str, dict[str, float]]:
    """Audits measured here beside what was expected; how far that is from it; the constants of those that fix them."""
    fits = [one for one in found if one["case"].fits]
    constants: dict[str, float] = {}
    for kind in sorted({one["case"].kind for one in found}):
        mine = [one for one in fits if one["case"].kind == kind]
        work = np.array([[one["rows"], one["passes"]] for one in mine]) / [[one["seconds"]] for one in mine]
        (of_row, of_pass), _ = nnls(work, np.ones(len(mine)))
        constants |= {f"{kind}, s a row": float(of_row), f"{kind}, s a pass": float(of_pass)}
    stored = []
    for of, some in (("", fits), ("pilot_", found)):
        for one in some:
            greedy = one["case"].prompts
            answers, tokens = one[f"{of}distinct"] + greedy, one[f"{of}tokens"] + greedy * one["length"]
            stored.append([one[f"{of}files"], answers, tokens, one[f"{of}draws"], one[f"{of}bytes"]])
    known = np.array(stored, dtype=float)
    shares, _ = nnls(known[:, :4] / known[:, 4:], np.ones(len(known)))
    names = ("bytes a file", "bytes an answer", "bytes a token of it", "bytes a draw")
    constants |= dict(zip(names, map(float, shares), strict=True))
    rows, ratios = [], []
    for one in found:
        case, law = one["case"], one["law"]
        n, prompts = case.draws, case.prompts
        alone = Law.invented(one["entropy"], one["length"], one["spread"])
        expected, simple = (prompts * (x.rows(n) + x.rows(1)) for x in (law, alone))  # a greedy answer beside the draws
        seconds = constants[f"{case.kind}, s a row"] * expected
        seconds += constants[f"{case.kind}, s a pass"] * one["passes_expected"]
        distinct, tokens = prompts * (law.distinct(n) + 1), prompts * (law.distinct_tokens(n) + law.length)
        size = shares @ [one["files"], distinct, tokens, one["draws"]]
        if not case.fits:
            ratios.append((expected / one["rows"], seconds / one["seconds"], size / one["bytes"]))
        how = f"T {case.temperature:g}" + (f", top-p {case.top_p:g}" if case.top_p < 1 else "")
        rows.append(
            (
                case.model, f"{prompts} x {n:,} x {case.tokens}, {how}", f"{one['entropy']:.2g}",
                f"{expected:,.0f}", f"{one['rows']:,}", f"**{expected / one['rows']:.2f}**",
                f"{simple / one['rows']:.2f}", f"{seconds:.3g}", f"{one['seconds']:.3g}",
                f"**{seconds / one['seconds']:.2f}**", f"{size / 1e3:,.0f}", f"{one['bytes'] / 1e3:,.0f}",
                f"**{size / one['bytes']:.2f}**", "fixed" if case.fits else "",
            )
        )  # fmt: skip
    heads = (
        "model|prompts x draws x tokens|nats|rows, expected|measured|ratio|of entropy alone|CPU s, expected|measured"
        "|ratio|kB, expected|measured|ratio|constants"
    )
    spans = [f"{what} {min(some):.2f} to {max(some):.2f}" for what, some in zip(
        ("rows", "seconds", "bytes"), zip(*ratios, strict=True), strict=True
    )]  # fmt: skip
    return table(heads, rows), ", ".join(spans), constants


def slept(crews: list[dict[str, Any]]) -> str:
    """The real crew beside its simulation."""
    rows = [
        (
            f"{one['workers']:,}", f"{one['shards']:,} x {one['pieces']}", one["seconds"], one["driver"],
            one["mtbf"] or "for ever", f"{one['real']:.2f}", f"{one['simulated']:.2f}",
            f"{one['least']:.2f} to {one['most']:.2f}",
            f"{one['real'] / one['simulated']:.2f}",
        )
        for one in crews
    ]  # fmt: skip
    heads = "workers|shards x pieces|s a shard|driver, s a piece|a worker lives, s|crew, s|simulated, s|of ten|ratio"
    return table(heads, rows)


def on_gpus(plans: dict[str, Plan], bytes_of: dict[str, float]) -> str:
    """GPU hours and bytes of each law."""
    rows = []
    for name, plan in plans.items():
        law, more = plan.law, replace(plan, rows=MORE_ROWS)
        unmerged = DRAWS * law.length / law.rows(DRAWS)
        distinct, tokens = law.distinct(DRAWS), law.distinct_tokens(DRAWS)
        each = plan.costs["requests_shard"] + plan.costs["requests_piece"] * plan.stages[1].pieces
        asked = plan.shards * each
        many = {"bytes a file": 2 * plan.shards / PROMPTS, "bytes an answer": distinct, "bytes a token of it": tokens}
        size = PROMPTS * sum(bytes_of[what] * x for what, x in {**many, "bytes a draw": DRAWS}.items())
        rows.append(
            (
                name, f"{law.entropy:.0f} in {law.length:.0f} tokens", f"{distinct:,.0f}", f"{law.rows(DRAWS):,.0f}",
                f"{unmerged:.1f}", short(plan.work / 3600), short(more.work / 3600),
                short(more.work / 3600 * unmerged), f"{size / 1e9:.2g}", f"{asked / 1e6:.2g}",
            )
        )  # fmt: skip
    heads = (
        "entropy|nats|distinct answers a prompt|rows a prompt|drawn tokens over rows"
        f"|GPU hours, {plans['high'].rows:.0f} rows a pass|{MORE_ROWS} rows|{MORE_ROWS} rows, nothing merged"
        "|GB stored|million requests to a store"
    )
    return table(heads, rows)


def hours(seconds: float) -> str:
    """Of the clock."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def simulated(
    plans: dict[str, Plan], runs: dict[str, Callable[[Plan], Plan]]
) -> tuple[str, str, dict[tuple[str, str, int], Outcome]]:
    """All laws, on so many workers, as the code is and otherwise; and where the time goes at high entropy."""
    rows, shares, kept = [], [], {}
    for name, plan in plans.items():
        for how, change in runs.items():
            one = change(plan)
            walls, ratios = [], []
            for workers in WORKERS:
                out = kept[name, how, workers] = simulate(one.staff(workers), one.stages, 1)
                walls.append(hours(out.wall))
                ratios.append(f"{on_paper(one.staff(workers), one.stages, one.spread) / out.wall:.2f}")
                whole = workers * out.wall / 100
                if name == "high" and workers > 1:
                    spent = (out.useful, out.waiting, out.idle, out.lost, out.loading)
                    of_driver = f"{out.driver / out.wall * 100:.0f}"
                    shares.append(
                        (how, f"{workers:,}", *(f"{x / whole:.1f}" for x in spent), of_driver, f"{out.deaths}")
                    )
            rows.append((name, how, *walls, ", ".join(ratios)))
    heads = "entropy|code|" + "|".join(f"{w:,} worker{'s' * (w > 1)}" for w in WORKERS) + "|formula over simulation"
    where = (
        "code|workers|% drawing|waiting for the driver|without a shard|lost by deaths|first loading"
        "|the driver's own time, % of the clock|deaths"
    )
    return table(heads, rows), table(where, shares), kept


def limits(disk: Plan, store: Plan, mended: Plan, stored: Plan) -> str:
    """What ends the growth, and from how many workers on."""
    *_, stage = disk.stages
    alone = [replace(one, driver=Driver()) for one in disk.stages]
    thin = next(
        w for w in range(1, 10**5, 8)
        if disk.work / w < 0.8 * on_paper(replace(disk.staff(w), load=0.0, mtbf=math.inf), alone, disk.spread)
    )  # fmt: skip
    sent = disk.shards * stage.pieces * disk.group * DRAWS / 2 * disk.costs["sent"]
    lost = (stage.seconds.mean() / stage.pieces / 2 + LOAD) / MTBF
    rows = [
        ("the driver, all it does, on a disk", f"{disk.most(*EVERYTHING):,}", "the sum of the next three"),
        (
            "looking through `pieces/` for each piece", f"{disk.most('files'):,}",
            "`runs/store.py: write_piece` (glob), `runs/files.py: sweep` (listdir): it has all shards' pieces",
        ),
        (
            "sending what is known of a shard for each piece", f"{disk.most('known'):,}",
            f"`models/base.py: in_pieces`: all earlier draws with their texts, {sent / 1e12:.2g} TB in all",
        ),
        ("unpacking and writing draws", f"{disk.most('writes'):,}", "one process writes all: decision 13's price"),
        (
            "the driver, all it does, in a store", f"{store.most(*EVERYTHING):,}",
            f"each piece is a put, a removal and lists of 1,000 names, {LATENCY:g} s each, one after the other",
        ),
        ("the driver, mended, on a disk", f"{mended.most(*EVERYTHING):,}", "what is left is unpacking and writing"),
        ("the driver, mended, in a store", f"{stored.most(*EVERYTHING):,}", "what is left are requests one by one"),
        ("the last shards, a fifth of the workers' time", f"{thin:,}", f"{disk.shards:,} shards; one is never split"),
        ("deaths", "any number", f"they cost {lost:.2%} of the work, as many as there may be"),
    ]  # fmt: skip
    return table("limit|begins at, workers|why", rows)


def judged(c: dict[str, float]) -> float:
    """Seconds of the driver to have a distinct answer scored: read, sent, written."""
    return c["read"] + c["pack"] + c["scores"]


def afterwards(plans: dict[str, Plan], c: dict[str, float]) -> str:
    """Scoring and bounding, which the driver feeds."""
    rows = []
    for name, plan in plans.items():
        distinct = PROMPTS * plan.law.distinct(DRAWS)
        times = (judged(c), c["score_rouge_l"], c["read_scored"], c["bound"] * PROMPTS / distinct)
        memory = (distinct * c["known_bytes"], distinct * c["collected_bytes"])
        rows.append(
            (name, short(distinct / 1e6), *(hours(distinct * x) for x in times), *(short(x / 1e9) for x in memory))
        )
    heads = (
        "entropy|million distinct answers|scoring: driver|workers together, ROUGE-L|bounding: driver|workers together"
        "|driver's GB while scoring|while bounding"
    )
    return table(heads, rows)


def rounds(plans: dict[str, Plan], c: dict[str, float]) -> tuple[str, str]:
    """``audit --until``: what clean prompts cost; and ``unlearn --until``, roughly."""
    from leakbound.auditing.stopping import StoppingRule, clean_look

    rule = StoppingRule("leak<=0.01", None, DRAWS, 0.5, 0.01)
    proven = next(n for n in rule.sizes() if clean_look(n, rule.claim).verdict == "proven")
    ends = [n for n in rule.sizes() if n <= proven]
    each = np.diff([0, *ends]).tolist()
    stops, trained = [], []
    for name, plan in plans.items():
        stages = plan.rounds(each)
        work = sum(float(stage.seconds.sum()) for stage in stages)
        scored = PROMPTS * sum(plan.law.distinct(n) for n in each) * (judged(c) + c["read_scored"])
        walls = [simulate(plan.staff(w), stages, 1).wall + scored for w in WORKERS[1:]]
        stops.append((name, proven, len(ends), short(work / 3600), f"{plan.work / work:.1f}", *map(hours, walls)))
        seconds = {
            n: math.ceil(PROMPTS / max(1, 16_384 // n)) * plan.seconds(n, max(1, 16_384 // n)) for n in (64, *each)
        }
        alone = seconds[64] + sum(seconds[n] for n in each)
        train = 5 * 2 * PROMPTS * 256 * 6 * LLAMA_8B.parameters / (H100.flops * H100.share)
        trained.append(
            (name, short(train / 3600), short(seconds[64] / 3600), short((alone - seconds[64]) / 3600),
             hours(5 * (train / 64 + alone)), hours(5 * (train + alone) / 64))
        )  # fmt: skip
    first = table(
        "entropy|draws until proven|rounds|GPU hours|times fewer than for all draws|64 workers|1,024 workers", stops
    )
    second = table(
        "entropy|training a round, GPU hours|search|proof|5 rounds: training on 64 GPUs, draws on one|draws on 64 too",
        trained,
    )
    return first, second


def picture(plan: Plan, runs: dict[str, Callable[[Plan], Plan]], out: Path) -> None:
    """Time against workers."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    sizes, many = [1, 4, 16, 64, 256, 1024, 2048], np.unique(np.geomspace(1, 2048, 60).astype(int))
    for (how, change), colour in zip(runs.items(), ("#0b7a75", "#b5541c", "#4a5fa5", "#8a6d1b"), strict=True):
        one = change(plan)
        walls = [simulate(one.staff(w), one.stages, 1).wall / 3600 for w in sizes]
        axes.loglog(sizes, walls, "o", color=colour, label=how)
        lines = [on_paper(one.staff(int(w)), one.stages, one.spread) / 3600 for w in many]
        axes.loglog(many, lines, "-", color=colour, lw=1)
    axes.loglog(many, plan.work / 3600 / many, ":", color="grey", label="work / workers")
    axes.set(
        xlabel="workers, each with an H100", ylabel="hours", title="10,000 prompts x 4,096 draws, 8B, high entropy"
    )
    axes.legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})
