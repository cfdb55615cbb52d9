"""An audit of 10,000 prompts x 4,096 draws of an 8B model on 1, 64 and 1,024 workers: on paper, and by simulation.

    OMP_NUM_THREADS=1 python benchmarks/scale.py DEMO SMOLLM2 [--out runs/scale] [--write docs/scale.md]

``DEMO``: a folder of ``leakbound demo``; ``SMOLLM2``: SmolLM2-135M-Instruct as docs/results/memory.md makes it.
Measures small audits, the driver's work and a crew that sleeps (some minutes; kept in measured.json of ``--out`` and
read from there the next time), then computes and simulates what does not fit this machine. With ``--write`` the tables
go between the marks of the page, in their order, and the picture beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from scale_cost import H100, LLAMA_8B
from scale_plan import DRAWS, HEAD, LAWS, MORE_ROWS, PIECE, TOKENS, Plan, usual_rows
from scale_tables import (
    EVERYTHING,
    afterwards,
    checked,
    hours,
    limits,
    on_gpus,
    picture,
    rounds,
    short,
    simulated,
    slept,
    table,
)

BEGIN, END = "<!-- printed -->", "<!-- end -->"


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """What is measured here, once."""
    from scale_audits import CASES, audits, described
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
    cases = zip(CASES, found["audits"], strict=True)
    return found | {"audits": [one | described(case, args.out / str(i)) for i, (case, one) in enumerate(cases)]}


def parts(found: dict[str, Any], drawn: Path | None) -> list[str]:
    """What stands between the marks of the page, in its order; the picture goes where ``drawn`` says."""
    audits = found["audits"]
    costs = found["driver"] | {f"requests_{name}": found["requests"][name] for name in ("piece", "shard")}
    check, spans, constants = checked(audits)
    crews = [one["real"] / one["simulated"] for one in found["crews"]]
    rows, of_row, of_pass = usual_rows()
    four = {one["case"].model: one["rows_spread"] / 2 for one in audits if one["case"].fits}  # of four prompts
    spreads = {model: math.sqrt(math.log1p(of_shard**2)) for model, of_shard in four.items()}
    plans = {n: Plan(n, costs, spreads[m], rows, (of_row, of_pass)) for n, (_, m) in LAWS.items()}
    runs: dict[str, Callable[[Plan], Plan]] = {
        "as it is, on a disk": lambda plan: plan,
        "as it is, in a store": lambda plan: replace(plan, store=True),
        "mended, on a disk": lambda plan: replace(plan, mended=True, rows=MORE_ROWS),
        "mended, in a store": lambda plan: replace(plan, mended=True, rows=MORE_ROWS, store=True),
    }
    time, where, kept = simulated(plans, runs)
    disk, store, mended, stored = (change(plans["high"]) for change in runs.values())
    if drawn is not None:
        picture(plans["high"], runs, drawn)
    gpu = {name: short(plan.work / 3600) for name, plan in plans.items()}
    now, _, then, _ = ({w: hours(kept["high", how, w].wall) for w in (64, 1024)} for how in runs)
    ends = [f"{one.most(*EVERYTHING):,}" for one in (disk, store, mended)]
    seconds = [kept["high", "as it is, on a disk", w].wall for w in (64, 1024)]
    beyond = "more of them make it slower" if seconds[1] > seconds[0] else "more of them bring little"
    verdict = (
        f"On paper the audit takes {gpu['low']}, {gpu['medium']} or {gpu['high']} H100 hours at low, medium and high "
        f"entropy.\nHigh entropy takes {now[64]} on 64 workers and {now[1024]} on 1,024: **from about {ends[0]} "
        f"workers on, {ends[1]} in an\nobject store, {beyond}**, because one process, the driver, takes all that they "
        "draw.\nNot GPUs, deaths or last shards end it, but how often the driver is asked and what it does then: with "
        f"that\n[mended](#what-ends-it) and batches of {MORE_ROWS} rows it would be {then[64]} and {then[1024]}, and "
        f"the driver would end it at {ends[2]} workers.\n\nWhat was checked: of audits of small models that were "
        f"predicted, expected over measured is {spans};\nthe real crew took {min(crews):.2f} to {max(crews):.2f} times "
        "what was simulated of it, with up to 1,024 workers that sleep. GPU hours were not checked."
    )
    of_draw = {
        "unpack": "an answer of a worker, unpacked",
        "pack": "a draw that is known, packed for the next question",
        "piece": "written, in a piece",
        "shard": "written, in a shard",
        "read": "read",
        "scores": "its score, written",
        "read_scored": "read with its score, and both checked",
        "score_contains": "scored by a worker, `contains`",
        "score_rouge_l": "scored by a worker, `rouge_l`",
    }
    driver = {
        **{f"{said}, µs a draw": f"{1e6 * costs[name]:.1f}" for name, said in of_draw.items()},
        "a draw that repeats an answer, µs": f"{1e6 * costs['place']:.2f}",
        "a piece, whatever is in it, ms": f"{1e3 * costs['each_piece']:.1f}",
        "of that until it is on the disk, ms of the clock": f"{1e3 * costs['sync']:.1f}",
        "a piece, for each file in `pieces/`, µs": f"{1e6 * costs['file']:.1f}",
        "bound by a worker, `rouge_l`, ms a prompt": f"{1e3 * costs['bound']:.0f}",
        "bytes of a draw on its way": f"{costs['sent']:.0f}",
        "requests of a piece; of a shard, its pieces apart": (
            f"{found['requests']['piece']:.0f}; {found['requests']['shard']:.0f}"
        ),
    }
    many = [
        one["nominal"] / (one["pieces"] - 1) for one in audits if one["case"].kind == "SmolLM2"
    ]  # but the greedy one
    named = ", ".join(f"{name} {value:.3g}" for name, value in constants.items())
    sigmas = ", ".join(f"{spreads[m]:.2f} ({n}, as {m})" for n, (_, m) in LAWS.items())
    fixed = (
        f"- constants: {named};\n- a piece of SmolLM2's draws: {min(many):.1f} to {max(many):.1f} nominal seconds; "
        f"{PIECE:g} are planned with, for answers are longer;\n- sigma of a shard's seconds: {sigmas}."
    )
    batch = (
        f"{rows:.0f} rows a pass is what `models/hf/budget.py` takes for an 8B model and {TOKENS} new tokens on a GPU. "
        "An H100 computes as long as it reads\nits weights and what is remembered at "
        f"{H100.balance(LLAMA_8B, HEAD + TOKENS / 2):,.0f} rows."
    )
    few, more = mended.stages[1].pieces, disk.stages[1].pieces
    pieces = f"At high entropy; a shard has {more} pieces, {few} when mended:"
    return [
        verdict,
        f"{on_gpus(plans, constants)}\n\n{batch}",
        f"{time}\n\nWhere the workers' time goes at high entropy:\n\n{where}",
        f"{pieces}\n\n{limits(disk, store, mended, stored)}",
        afterwards(plans, costs),
        *rounds(plans, costs),
        f"{check}\n\n{fixed}",
        slept(found["crews"]),
        f"With {4 * DRAWS:,} draws of 128 tokens, all different; of the processor, the fewest of three:\n\n"
        f"{table('what|measured', driver.items())}",
    ]


def written(page: str, printed: list[str], about: str) -> str:
    """The page with these parts between its marks, and where they were made above the last mark's end."""
    heads = page.split(BEGIN)
    if len(heads) != len(printed) + 1:
        raise SystemExit(f"the page has {len(heads) - 1} marks for {len(printed)} parts")
    printed = [*printed[:-1], f"{printed[-1]}\n\n{about}"]
    ends = [f"\n{part}\n{END}{rest.split(END, 1)[1]}" for part, rest in zip(printed, heads[1:], strict=True)]
    return BEGIN.join([heads[0], *ends])


def main() -> None:
    """Measure, compute, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("smol", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    printed = parts(measured(args), args.write and args.write.with_suffix(".svg"))
    print("\n\n".join(printed))
    if args.write:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        about = (
            f"All of this page: AMD EPYC ({platform.machine()}), {os.cpu_count()} cores, one thread, {date.today()}, "
            f"commit {commit}."
        )
        args.write.write_text(written(args.write.read_text(encoding="utf-8"), printed, about), encoding="utf-8")


if __name__ == "__main__":
    main()
