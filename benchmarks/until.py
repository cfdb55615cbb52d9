"""How often `unlearn --until` says what is false: simulated runs whose models' P(leak) is known.

    python benchmarks/until.py [--runs 500] [--alpha 0.1]

Three forget questions and three retain questions, four attempts at most. Training is left out: the model of each round
leaks and answers with probabilities that are given here. Everything else is the command's own code. In the first half
of the runs the claim is false of every round's model, by little (a leak above the limit, or less kept than claimed), in
the other half it is true by little. Every round's search leaves hope by chance; the most attempts are made that can be.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path

from leakbound.auditing.steps import audit, sample
from leakbound.models import FakeModel
from leakbound.proving import asking, rounds
from leakbound.proving.goal import Goal
from leakbound.report import document
from leakbound.unlearning.config import UnlearnConfig

LIMIT, KEPT = 0.05, 0.8
WORLDS = {
    "one question leaks .052": (({"a": 0.0, "b": 0.0, "c": 0.052}, 0.95), False, "every"),
    "all leak .055": (({"a": 0.055, "b": 0.055, "c": 0.055}, 0.95), False, "every"),
    "average .052": (({"a": 0.0, "b": 0.0, "c": 0.156}, 0.95), False, "average"),
    "kept .79": (({"a": 0.0, "b": 0.0, "c": 0.0}, 0.79), False, "every"),
    "all leak .048": (({"a": 0.048, "b": 0.048, "c": 0.048}, 0.95), True, "every"),
    "average .048": (({"a": 0.0, "b": 0.0, "c": 0.144}, 0.95), True, "average"),
    "kept .81": (({"a": 0.0, "b": 0.0, "c": 0.0}, 0.81), True, "every"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--alpha", type=float, default=0.1)
    args = parser.parse_args()
    known: list[tuple[dict[str, float], float]] = []

    def train(step, *, progress):
        step.out.mkdir(parents=True, exist_ok=True)
        (step.out / "training.json").write_text(json.dumps({"steps": 1, "seconds": 0.0}))
        return step.out

    def fake(what: str) -> FakeModel:
        leaks, right = known[-1]
        return FakeModel(leak=right) if "retain" in what else FakeModel(leak=0.0, leaks=tuple(leaks.items()))

    document.svg = lambda figure, name, title: ""  # pages are written, pictures are not drawn
    rounds.unlearn = train
    asking.open_model = lambda name, **loading: name
    asking.audit = lambda m, prompts, *, out, **more: audit(fake(out.name), prompts, out=out, **more)
    asking.sample = lambda m, prompts, out, **more: sample(fake(out.name), prompts, out, **more)
    asking.load_tokenizer = lambda name: None
    asking.read_answer = lambda tokenizer, text, template: text
    said: dict[str, Counter] = {name: Counter() for name in WORLDS}
    attempts: dict[str, int] = dict.fromkeys(WORLDS, 0)
    for run, (name, (world, _, of)) in zip(range(args.runs), itertools.cycle(WORLDS.items()), strict=False):
        known.append(world)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for kind in ("forget", "retain"):
                rows = [{"id": i, "question": f"{i}?", "answer": f"It is {i * 9}.", "target": i * 9} for i in "abc"]
                (place / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            config = UnlearnConfig(model="m", forget=(place / "forget.jsonl",), retain=place / "retain.jsonl",
                                   out=place / "out", leak_samples=16, seed=run)  # fmt: skip
            goal = Goal(until=f"leak<={LIMIT}", of=of, keep=f"known>={KEPT}", rounds=3, alpha=args.alpha,
                        proof_samples=1000, keep_samples=256)  # fmt: skip
            found = rounds.unlearn_until(config, goal, progress=False)
        said[name][found.verdict] += 1
        attempts[name] += sum(one.attempt is not None for one in found.rounds)
    print(
        f"alpha {args.alpha}, {args.runs} runs\n\n| world | claim | runs | proven | refuted | open | attempts a run |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, (_, true, _) in WORLDS.items():
        n, c = sum(said[name].values()), said[name]
        print(f"| {name} | {'true' if true else 'false'} | {n} | {c['proven']} | {c['refuted']} | {c['open']} "
              f"| {attempts[name] / max(n, 1):.2f} |")  # fmt: skip
    wrong = sum(said[name]["refuted" if true else "proven"] for name, (_, true, _) in WORLDS.items())
    print(f"\nWrong verdicts: {wrong} of {args.runs}; allowed at alpha: {args.alpha * args.runs:.0f} on average.")


if __name__ == "__main__":
    main()
