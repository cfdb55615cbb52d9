"""An audit of 10,000 prompts x 4,096 draws of an 8B model on 1, 64 and 1,024 workers: on paper, and by simulation.

    OMP_NUM_THREADS=1 python benchmarks/scale.py DEMO SMOLLM2 [--out runs/scale] [--write docs/scale.md]

``DEMO``: a folder of ``leakbound demo``; ``SMOLLM2``: SmolLM2-135M-Instruct as docs/results/memory.md makes it. Measures
small audits, the driver's work and a crew that sleeps (some minutes; kept in measured.json of ``--out``, and read from
there if it is there), then computes and simulates what does not fit this machine. With ``--write`` the tables go between
the marks of the page, and the picture beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scale_cost import H100, LLAMA_8B, Law
from scale_crew import Driver, Outcome, on_paper, simulate
from scale_plan import (
    DRAWS, HEAD, LATENCY, LAWS, LOAD, MORE_ROWS, MTBF, PIECE, PROMPTS, TOKENS, WORKERS, Plan, usual_rows,
)  # fmt: skip
from scipy.optimize import nnls

PILOT = 32
BEGIN, END = "<!-- printed -->", "<!-- end -->"


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


def checked(found: list[dict[str, Any]]) -> tuple[str, dict[str, float]]:
    """Audits measured here beside what was expected; the constants of those that fix them."""
    fits = [one for one in found if one["case"]["fits"]]
    constants: dict[str, float] = {}
    for kind in sorted({one["kind"] for one in found}):
        mine = [one for one in fits if one["kind"] == kind]
        work = np.array([[one["rows"], one["case"]["prompts"] * one["case"]["draws"] * one["length"]] for one in mine])
        taken = np.array([one["seconds"] for one in mine])
        (of_row, of_token), _ = nnls(work / taken[:, None], np.ones(len(mine)))
        constants |= {f"{kind} row": float(of_row), f"{kind} token": float(of_token)}
    files = [(one["files"], one["distinct"], one["tokens_distinct"], one["bytes"]) for one in fits]
    files += [(one["pilot_files"], one["pilot_distinct"], one["pilot_tokens"], one["pilot_bytes"]) for one in found]
    known = np.array(files, dtype=float)
    shares, _ = nnls(known[:, :3] / known[:, 3:], np.ones(len(known)))
    constants |= dict(zip(("bytes file", "bytes distinct", "bytes token"), map(float, shares), strict=True))
    rows = []
    for one in found:
        case = one["case"]
        law = Law(*map(np.array, one["law"]))
        n, prompts, kind = case["draws"], case["prompts"], one["kind"]
        expected = prompts * law.rows(n)
        alone = prompts * Law.even(one["entropy"], max(1, round(one["length"])), one["spread"]).rows(n)
        seconds = constants[f"{kind} row"] * expected + constants[f"{kind} token"] * prompts * n * law.length
        size = shares @ [one["files"], prompts * law.distinct(n), prompts * law.distinct_tokens(n)]
        how = f"T {case['temperature']:g}" + (f", top-p {case['top_p']:g}" if case["top_p"] < 1 else "")
        rows.append(
            (
                case["model"], f"{prompts} x {n:,} x {case['tokens']}, {how}", f"{one['entropy']:.2g}",
                f"{expected:,.0f}", f"{one['rows']:,}", f"**{expected / one['rows']:.2f}**",
                f"{alone / one['rows']:.2f}", f"{seconds:.3g}", f"{one['seconds']:.3g}",
                f"**{seconds / one['seconds']:.2f}**", f"{size / 1e3:,.0f}", f"{one['bytes'] / 1e3:,.0f}",
                f"**{size / one['bytes']:.2f}**", "fixes them" if case["fits"] else "predicted",
            )
        )  # fmt: skip
    heads = (
        "model|prompts x draws x tokens|nats|rows, expected|measured|ratio|of entropy alone|CPU s, expected|measured"
        "|ratio|kB, expected|measured|ratio|constants"
    )
    return table(heads, rows), constants


def slept(crews: list[dict[str, Any]]) -> str:
    """The real crew beside its simulation."""
    rows = [
        (
            f"{one['workers']:,}", f"{one['shards']:,} x {one['pieces']}", one["seconds"], one["driver"], one["mtbf"] or "none",
            f"{one['real']:.2f}", f"{one['simulated']:.2f}", f"{one['least']:.2f} to {one['most']:.2f}",
            f"{one['real'] / one['simulated']:.2f}",
        )
        for one in crews
    ]  # fmt: skip
    heads = "workers|shards x pieces|s a shard|driver, s a piece|a worker lives, s|the crew, s|simulated, mean of 10|all 10|ratio"
    return table(heads, rows)


def on_gpus(plans: dict[str, Plan], bytes_of: dict[str, float]) -> str:
    """GPU hours and bytes of each law."""
    rows = []
    for name, plan in plans.items():
        law = plan.law
        count, more = law.rows(DRAWS), replace(plan, rows=MORE_ROWS)
        whole = replace(plan, rows=MORE_ROWS, name=name)
        unmerged = DRAWS * law.length / count
        size = PROMPTS * (
            law.distinct(DRAWS) * bytes_of["bytes distinct"] + law.distinct_tokens(DRAWS) * bytes_of["bytes token"]
        )
        rows.append(
            (
                name, f"{law.entropy:.0f} in {law.length:.0f} tokens", f"{law.distinct(DRAWS):,.0f}", f"{count:,.0f}",
                f"{unmerged:.1f}", short(plan.work / 3600), short(more.work / 3600),
                short(whole.work / 3600 * unmerged), f"{size / 1e9:.2g}",
            )
        )  # fmt: skip
    heads = (
        f"entropy|nats|distinct answers a prompt|rows a prompt|draws' tokens over rows|GPU hours, {plans['high'].rows:.0f} rows a pass"
        f"|{MORE_ROWS} rows|{MORE_ROWS} rows, nothing merged|GB of draws and scores"
    )
    return table(heads, rows)


def hours(seconds: float) -> str:
    """Of the clock."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def simulated(plans: dict[str, Plan], runs: dict[str, Callable[[Plan], Plan]]) -> tuple[str, dict[Any, Outcome]]:
    """All laws, on so many workers, as the code is and otherwise."""
    rows, kept = [], {}
    for name, plan in plans.items():
        for how, change in runs.items():
            one = change(plan)
            stages = one.stages()
            for workers in WORKERS:
                out = kept[name, how, workers] = simulate(one.staff(workers), stages, 1)
                paper = on_paper(one.staff(workers), stages, one.spread)
                whole = workers * out.wall / 100
                rows.append(
                    (
                        name, how, f"{workers:,}", hours(out.wall), hours(paper), f"{paper / out.wall:.2f}",
                        *(f"{x / whole:.1f}" for x in (out.useful, out.waiting, out.idle, out.lost, out.loading)),
                        f"{out.driver / out.wall * 100:.0f}", out.deaths,
                    )
                )  # fmt: skip
    heads = (
        "entropy|code|workers|time, simulated|formula|ratio|% drawing|% waiting for the driver|% without a shard"
        "|% lost by deaths|% first loading|% of the time the driver works|deaths"
    )
    return table(heads, rows), kept


def limits(disk: Plan, store: Plan, mended: Plan) -> str:
    """What ends the growth, and from how many workers on."""
    *_, stage = disk.stages()
    alone = [replace(one, driver=Driver()) for one in disk.stages()]
    thin = next(
        w for w in range(1, 10**5, 8)
        if disk.work / w < 0.8 * on_paper(replace(disk.staff(w), load=0.0, mtbf=math.inf), alone, disk.spread)
    )  # fmt: skip
    everything = ("writes", "known", "files")
    lost = (stage.seconds.mean() / stage.pieces / 2 + LOAD) / MTBF
    rows = [
        ("the driver, all it does, on a disk", f"{disk.most(*everything):,}", "the sum of the next three"),
        (
            "looking through `pieces/` for each piece", f"{disk.most('files'):,}",
            "`runs/store.py: write_piece` (a glob) and `runs/files.py: sweep` (a listdir), of a folder of all shards' pieces",
        ),
        (
            "sending what is known of a shard for each piece", f"{disk.most('known'):,}",
            "`models/base.py: in_pieces`: all earlier draws with their texts; their numbers would do",
        ),
        ("unpacking and writing draws", f"{disk.most('writes'):,}", "one process writes all files: decision 13's price"),
        (
            "the driver, all it does, in a store", f"{store.most(*everything):,}",
            f"each piece is a put, a removal and lists of 1,000 names, {LATENCY:g} s each, one after the other",
        ),
        ("the driver with both mended and pieces of a minute", f"{mended.most(*everything):,}", "what is left is writing"),
        ("the last shards, below 80 % of the workers' time", f"{thin:,}", f"{disk.shards:,} shards; one is never split"),
        ("deaths", "any number", f"they cost {lost:.2%} of the work, as many as there may be"),
    ]  # fmt: skip
    return table("limit|begins at, workers|why", rows)


def afterwards(plans: dict[str, Plan], c: dict[str, float]) -> str:
    """Scoring and bounding, which the driver feeds."""
    rows = []
    for name, plan in plans.items():
        distinct = PROMPTS * plan.law.distinct(DRAWS)
        rows.append(
            (
                name, short(distinct / 1e6), hours(distinct * c["score_contains"]),
                hours(distinct * max(0.0, c["score_rouge_l"] - c["score_contains"])), hours(distinct * c["read_scored"]),
                hours(PROMPTS * c["bound"]), short(distinct * c["known_bytes"] / 1e9),
                short(distinct * c["collected_bytes"] / 1e9),
            )
        )  # fmt: skip
    heads = (
        "entropy|million distinct answers|scoring: driver|workers, together (ROUGE-L)|bounding: driver|workers, together"
        "|GB of memory while scoring|GB while bounding"
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
        stages = plan.stages(each)
        work = sum(float(stage.seconds.sum()) for stage in stages)
        judged = PROMPTS * sum(plan.law.distinct(n) for n in each) * c["score_contains"]
        walls = [simulate(plan.staff(w), stages, 1).wall + judged for w in WORKERS[1:]]
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
    for (how, change), colour in zip(runs.items(), ("#0b7a75", "#b5541c", "#4a5fa5"), strict=True):
        one = change(plan)
        stages = one.stages()
        walls = [simulate(one.staff(w), stages, 1).wall / 3600 for w in sizes]
        axes.loglog(sizes, walls, "o", color=colour, label=how)
        axes.loglog(
            many, [on_paper(one.staff(int(w)), stages, one.spread) / 3600 for w in many], "-", color=colour, lw=1
        )
    axes.loglog(many, plan.work / 3600 / many, ":", color="grey", label="work / workers")
    axes.set(
        xlabel="workers, each with an H100", ylabel="hours", title="10,000 prompts x 4,096 draws, 8B, high entropy"
    )
    axes.legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """What is measured here, once."""
    from scale_audits import audits
    from scale_driver import crews, driver, requests

    from leakbound.runs.store import Run

    file = args.out / "measured.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    steps: dict[str, Callable[[], Any]] = {
        "audits": lambda: audits(args.demo, args.smol, args.out),
        "driver": lambda: driver(texts(Run.open(args.out / "9" / "run")), args.out / "driver"),
        "requests": requests,
        "crews": crews,
    }

    def texts(run: Any) -> list[str]:
        return [draw.text for part in run.parts if part.sampled for draw in run.read_draws(part)]

    for name, step in steps.items():
        if name not in found:
            found[name] = step()
            args.out.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found), encoding="utf-8")
    return found


def body(found: dict[str, Any], out: Path | None) -> str:
    """The tables of the page, the verdict first."""
    audits, costs = found["audits"], found["driver"]
    check, constants = checked(audits)
    rows, of_row, of_pass = usual_rows()
    spreads = {one["case"]["model"]: one["rows_spread"] / 2 for one in audits if one["case"]["fits"]}
    plans = {n: Plan(n, costs, spreads[m], rows, (of_row, of_pass)) for n, (_, m) in LAWS.items()}
    runs: dict[str, Callable[[Plan], Plan]] = {
        "as it is, on a disk": lambda plan: plan,
        "as it is, in a store": lambda plan: replace(plan, store=True),
        "mended": lambda plan: replace(plan, mended=True, rows=MORE_ROWS),
    }
    whole, kept = simulated(plans, runs)
    high, three = plans["high"], [change(plans["high"]) for change in runs.values()]
    if out is not None:
        picture(high, runs, out.with_suffix(".svg"))
    stops, trained = rounds(plans, costs)
    wall = {key: hours(one.wall) for key, one in kept.items()}
    disk, store, mended = runs
    everything = ("writes", "known", "files")
    ends = [one.most(*everything) for one in three]
    gpu = {n: short(plan.work / 3600) for n, plan in plans.items()}
    verdict = f"""**Verdict.** On paper the audit takes {gpu["low"]}, {gpu["medium"]} or {gpu["high"]} H100 hours at low, medium and high
entropy. High entropy takes {wall["high", disk, 64]} on 64 workers and {wall["high", disk, 1024]} on 1,024: **beyond about {ends[0]} workers on a
disk, {ends[1]} in an object store, more workers bring nothing**, because one process, the driver, takes every piece. Not the GPUs, deaths or
last shards end it, but how often the driver is asked: with what is named [below](#what-ends-it) mended and batches of {MORE_ROWS} rows it would be
{wall["high", mended, 64]} and {wall["high", mended, 1024]}, and the driver would end it at {ends[2]}."""
    names = ("unpack", "pack", "piece", "shard", "read", "read_scored", "score_contains", "score_rouge_l")
    said = {
        **{f"{name}, us a draw": f"{1e6 * costs[name]:.1f}" for name in names},
        "a draw that repeats, us": f"{1e6 * costs['place']:.2f}",
        "each piece, ms": f"{1e3 * costs['each_piece']:.1f}",
        "each piece, for each file in pieces/, us": f"{1e6 * costs['file']:.1f}",
        "bound, ms a prompt": f"{1e3 * costs['bound']:.1f}",
        "bytes sent a draw": f"{costs['sent']:.0f}",
        "bytes of draws and scores": f"{costs['both_bytes']:.0f}",
        "requests of a piece, of a shard": f"{found['requests']['piece']:.0f}, {found['requests']['shard']:.0f}",
    }
    nominal = [(one["nominal"] / one["pieces"], one["pieces"]) for one in audits if one["pieces"] > 6]
    return f"""{verdict}

![Time against workers](scale.svg)

Dots are simulated, lines are the formula; the dotted line is work over workers.

## GPU hours and bytes

{on_gpus(plans, constants)}

{rows:.0f} rows a pass is what `models/hf/budget.py` takes for an 8B model and {TOKENS} new tokens on a GPU; an H100 reads its weights as fast as it
computes at {H100.balance(LLAMA_8B, HEAD + TOKENS / 2):,.0f} rows.

## Time on 1, 64 and 1,024 workers

{whole}

## What ends it

At high entropy, of {three[0].stages()[1].pieces} pieces a shard ({three[2].stages()[1].pieces} mended):

{limits(*three)}

## After the draws

{afterwards(plans, costs)}

## Rounds

`leakbound audit --until "leak<=0.01"` of clean prompts; each round waits for the one before:

{stops}

`leakbound unlearn --until "leak<=0.01"`, roughly: 10,000 rows to forget beside as many to keep, 256 tokens each, 5 epochs a round:

{trained}

## Checked: audits measured here

Rows, seconds and bytes expected from {PILOT} draws of each prompt with another seed, beside what the audit took. Constants (seconds of a row and of a
drawn token for each kind of model; bytes of a file, of an answer and of its token) are fixed by the audits marked so, bytes by all pilots too.

{check}

Constants: {", ".join(f"{name} {value:.3g}" for name, value in constants.items())}. A piece took
{min(x for x, _ in nominal):.1f} to {max(x for x, _ in nominal):.1f} nominal seconds in audits of more than 6 pieces; {PIECE:g} are planned with. A shard's
seconds vary as its prompts' rows do: sigma {", ".join(f"{spreads[m]:.2f} ({n}, as {m})" for n, (_, m) in LAWS.items())}.

## Checked: the real crew

`leakbound.workers.crew` itself, whose workers sleep instead of drawing, beside the simulation of the same shards:

{slept(found["crews"])}

## Measured: what the driver does

With {4 * DRAWS:,} draws of 128 tokens, all different, put together from answers of SmolLM2:

{table("what|measured", said.items())}"""


def main() -> None:
    """Measure, compute, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("smol", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    text = body(measured(args), args.write)
    print(text)
    if args.write:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        about = f"AMD EPYC ({platform.machine()}), {os.cpu_count()} cores, one thread, {date.today()}, commit {commit}."
        head, rest = args.write.read_text(encoding="utf-8").split(BEGIN)
        args.write.write_text(f"{head}{BEGIN}\n{text}\n\n{about}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
