"""How often the bounds of an audit miss, exactly where outcomes can be summed, else by simulation.

    python benchmarks/coverage.py --write    # everything, about 45 CPU minutes, into docs/results/coverage.md
    python benchmarks/coverage.py --quick --seeds 30

1. Two-point laws: scores of a binary scorer, and counts whose order nobody knows. A bound is a function of the count
   then, so the probability of a miss is a sum over all counts: its largest value over 2,000 values of p.
2. Three-point laws on {0, 1/2, 1} through every order of generation, n <= 8: exact again.
3. Three-point laws and others by simulation, in the order of generation, n = 128 and 1024.
4. The public audit on a fake model, prompt by prompt, statement by statement, over many sampling seeds.

What is simulated may exceed its level only as a count of misses does with probability 1e-6 for all of them together.
Slices of what is simulated are kept in runs/coverage.jsonl: a run that was stopped goes on, as long as the modules that
decide what an audit of a fake model says are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from demo_table import commit, processor
from scipy import stats

from leakbound import FakeModel, audit
from leakbound.bounds import ed_bounds, mean_bounds, std_bounds
from leakbound.bounds.gate import reaches

ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "runs" / "coverage.jsonl", ROOT / "docs" / "results" / "coverage.md"
FALSE_ALARM = 1e-6
FAMILY = {"E[h]": mean_bounds, "sd": std_bounds, "mean + 2 sd": ed_bounds}
SIZES = (32, 92, 128, 256, 1024)
RATES = np.linspace(0.0005, 0.9995, 2000)
# a constant permutation of sorted scores missed .0987, .288, .206 and .103 there, at alpha = .01
WORST_BEFORE = np.array([0.7490001, 0.10685, 0.9394, 0.2333])


printed: list[str] = []


def say(line):
    """Print a line now, and keep it for the page."""
    printed.append(line)
    print(line, flush=True)


class Slices:
    """What was computed before by the same source, by what it is; the rest is computed and added."""

    def __init__(self):
        audits(0.05, 8, {"scorer": "rouge_l", "threshold": 0.9, "until": "leak<=0.05"}, 0, 1)  # imports them
        deciding = re.compile(r"leakbound\.(bounds|auditing|scoring|results|records|models\.fake)\b")
        files = sorted(m.__file__ for name, m in sys.modules.items() if deciding.match(name) and m.__file__)
        self.state = hashlib.sha256(b"\0".join(Path(f).read_bytes() for f in files)).hexdigest()[:16]
        KEPT.parent.mkdir(exist_ok=True)
        rows = [json.loads(r) for r in KEPT.read_text().splitlines() if r.endswith("}")] if KEPT.exists() else []
        self.rows = {r["what"]: r for r in rows if r["state"] == self.state}
        self.earlier = 0.0

    def __call__(self, make, *what):
        """``make(*what)``, from the file where it stands there."""
        key = json.dumps([make.__name__, *what])
        if key not in self.rows:
            begin = time.process_time()
            found = make(*what)
            row = {"what": key, "state": self.state, "found": found, "cpu": time.process_time() - begin}
            with KEPT.open("a") as file:
                file.write(json.dumps(row) + "\n")
            return found
        self.earlier += self.rows[key]["cpu"]
        return self.rows[key]["found"]


def moments(points, weights):
    """Mean, sd and mean + 2 sd of laws, one row of weights each."""
    points, weights = np.asarray(points), np.atleast_2d(weights)
    mean = weights @ points
    sd = np.sqrt(np.maximum(weights @ points**2 - mean**2, 0.0))
    return {"E[h]": mean, "sd": sd, "mean + 2 sd": mean + 2 * sd}


def two_points(alpha):
    say("\n1. Two-point laws, exact: the largest probability of a miss over 2,000 values of p (and where)")
    say(f"{'scores':14} {'n':>5}  " + "  ".join(f"{name:>19}" for name in FAMILY))
    rates = np.concatenate([RATES, WORST_BEFORE])
    worst = 0.0
    designs = [("0 or 1, binary", (0.0, 1.0), "binary")]
    designs += [(f"{a:g} or {b:g}, counted", (a, b), "betting") for a, b in ((0, 1), (0, 0.5), (0.5, 1), (0.1, 0.9))]
    for name, points, method in designs:
        truths = moments(points, np.stack([1 - rates, rates], axis=1))
        for n in SIZES:
            counts = [[n - k, k] for k in range(n + 1)]
            pmf = stats.binom.pmf(np.arange(n + 1), n, rates[:, None])
            cells = []
            for what, bounds in FAMILY.items():
                upper = [b.upper for b in bounds([points] * (n + 1), counts=counts, alpha=alpha, method=method)]
                missed = (pmf * (np.array(upper) < truths[what][:, None] - 1e-12)).sum(axis=1)
                place = int(missed.argmax())
                worst = max(worst, float(missed[place]))
                cells.append(f"{missed[place]:.6f} at {rates[place]:.5f}")
            say(f"{name:14} {n:5}  " + "  ".join(f"{cell:>19}" for cell in cells))
    return worst


def three_points(alpha, longest):
    say("\n2. Laws on {0, 1/2, 1} through every order of generation, exact: largest probability of a miss")
    points = np.array([0.0, 0.5, 1.0])
    grid = [i / 20 for i in range(21)]
    laws = np.array([(a, b, max(1 - a - b, 0.0)) for a, b in itertools.product(grid, grid) if a + b <= 1 + 1e-12])
    truths, worst = moments(points, laws), 0.0
    for n in range(1, longest + 1):
        paths = np.array(list(itertools.product(range(3), repeat=n)))
        number = np.stack([(paths == i).sum(axis=1) for i in range(3)], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(number[None] > 0, number[None] * np.log(laws)[:, None], 0.0).sum(axis=2)
        probability = np.exp(logs)
        cells = []
        for what, bounds in FAMILY.items():
            upper = np.array([b.upper for b in bounds(points[paths], alpha=alpha)])
            missed = (probability * (upper < truths[what][:, None] - 1e-12)).sum(axis=1)
            worst = max(worst, float(missed.max()))
            cells.append(f"{what} {missed.max():.6f}")
        say(f"n = {n}: " + ", ".join(cells))
    return worst


def allowed(runs, alpha, tests):
    """The most misses that a valid bound has but with probability FALSE_ALARM, over all the tests together."""
    return int(stats.binom.isf(FALSE_ALARM / tests, runs, alpha))


LAWS = [
    *(((0.0, 0.5, 1.0), w) for w in ((0.9, 0.05, 0.05), (0.5, 0.0, 0.5), (0.98, 0.01, 0.01), (0.2, 0.6, 0.2),
                                     (0.0, 0.9, 0.1), (0.1, 0.0, 0.9), (0.0606, 0.0, 0.9394), (0.89315, 0.0, 0.10685),
                                     (0.7667, 0.0, 0.2333), (0.05, 0.05, 0.9))),
    ((0.3, 0.31, 1.0), (0.9, 0.07, 0.03)),
    ((0.0, 0.999, 1.0), (0.5, 0.25, 0.25)),
]  # fmt: skip


def in_order(alpha, law, n, start, end):
    """Misses of the runs ``start`` to ``end`` of a law."""
    points, weights = LAWS[law]
    samples = np.random.default_rng([law, n, start]).choice(points, size=(end - start, n), p=weights)
    truths = moments(points, weights)
    uppers = {what: np.array([b.upper for b in bounds(samples, alpha=alpha)]) for what, bounds in FAMILY.items()}
    return {what: int((upper < truths[what][0] - 1e-12).sum()) for what, upper in uppers.items()}


def total(slices, make, end, step, *what):
    """The misses of all slices."""
    misses: dict[str, int] = {}
    for start in range(0, end, step):
        for name, missed in slices(make, *what, start, min(start + step, end)).items():
            misses[name] = misses.get(name, 0) + missed
    return misses


def simulated(alpha, quick, slices):
    say("\n3. In the order of generation, simulated: misses of runs, and the most that are allowed")
    sizes = ((128, 2000 if quick else 20000), (1024, 400 if quick else 4000))
    tests, worst = len(LAWS) * len(FAMILY) * len(sizes), 0.0
    for n, runs in sizes:
        most = allowed(runs, alpha, tests)
        for law, (points, weights) in enumerate(LAWS):
            missed = total(slices, in_order, runs, 400, alpha, law, n)
            worst = max(worst, max(missed.values()) / most)
            said = ", ".join(f"{what} {count}" for what, count in missed.items())
            say(f"n = {n}, {runs} runs, {points} with {weights}: {said}; allowed {most}")
    return worst


LEAKS = (("p0", 0.0), ("p1", 0.01), ("p2", 0.10685), ("p3", 0.2333), ("p4", 0.749), ("p5", 0.9394), ("p6", 1.0))
TARGET, CLEAN = "one two three four five six seven eight", "I said one two and no more"


def audits(alpha, num_samples, settings, start, end):
    """How often each statement of an audit misses, by contains or by ROUGE-L (1 for the target, 1/4 otherwise)."""
    prompts = [{"id": name, "text": f"What is {name}?", "target": TARGET} for name, _ in LEAKS]
    rates = np.array([p for _, p in LEAKS])
    clean = 0.25 if settings["scorer"] == "rouge_l" else 0.0
    truths = moments((clean, 1.0), np.stack([1 - rates, rates], axis=1))
    misses: dict[str, int] = {}
    for seed in range(start, end):
        model = FakeModel(leaks=LEAKS, clean=CLEAN)
        found = audit(model, prompts, seed=seed, alpha=alpha, num_samples=num_samples, progress=False, **settings)
        said = {
            "worst prompt": found.worst_prompt.upper < rates.max(),
            "average P(leak)": found.mean_leak.upper < rates.mean(),
            "average E[h]": found.mean_score.upper < truths["E[h]"].mean(),
            "jointly": any(p.leak_jointly.upper < q for p, q in zip(found.prompts, rates, strict=True)),
        }
        for i, (p, rate) in enumerate(zip(found.prompts, rates, strict=True)):
            said[f"{p.prompt.id} P(leak)"] = p.leak.upper < rate
            for what, bound in (("E[h]", p.mean), ("sd", p.std), ("mean + 2 sd", p.ed_bound)):
                said[f"{p.prompt.id} {what}"] = bound.upper < truths[what][i] - 1e-12
            above = [rate if reaches(t, clean) else 1.0 for t in p.survival.thresholds]
            said[f"{p.prompt.id} band"] = any(u < s for u, s in zip(p.survival.upper, above, strict=True))
        for name, missed in said.items():
            misses[name] = misses.get(name, 0) + int(missed)
    return misses


def through_the_audit(seeds, slices):
    alpha, designs = 0.05, []
    for scorer in ("contains", "rouge_l"):
        designs += [
            (f"{scorer}, n = 128", 128, {"scorer": scorer, "threshold": 0.9}),
            (f"{scorer}, until leak<=0.05", 256, {"scorer": scorer, "threshold": 0.9, "until": "leak<=0.05"}),
            (f"{scorer}, width 0.2", 400, {"scorer": scorer, "threshold": 0.9, "width": 0.2}),
        ]
    tests = len(designs) * (4 + 5 * len(LEAKS))
    most, worst = allowed(seeds, alpha, tests), 0.0
    say(f"\n4. The public audit at alpha = {alpha}, {seeds} seeds, {len(LEAKS)} prompts: misses (allowed {most} each)")
    for name, n, settings in designs:
        misses = total(slices, audits, seeds, 50, alpha, n, settings)
        top = sorted(misses.items(), key=lambda item: -item[1])[:4]
        worst = max(worst, top[0][1] / most)
        rest = ", ".join(f"{what} {count}" for what, count in top)
        say(f"{name:26} {len(misses)} statements; most misses: {rest}")
    return worst


def page(command, cpu):
    """The page of results: what was printed, by which command, where and when."""
    day = datetime.now(UTC).date().isoformat()
    where = f"{processor()}, {os.cpu_count()} cores shared with other work, {day}, commit {commit()}"
    return f"""# How often the bounds miss

The largest probability of a miss where outcomes can be summed, and counted misses where they cannot. "Allowed" is what
the counts of valid bounds stay within, all of them together, but with probability 1e-6.
{where}, numpy {np.__version__}; {cpu / 60:.0f} CPU minutes.

```console
$ {command}
{chr(10).join(printed)}
```
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000, help="audits of each kind in part 4")
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations of part 3, n <= 6 in part 2")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    args = parser.parse_args()
    slices = Slices()
    exact = max(two_points(0.01), three_points(0.01, 6 if args.quick else 8))
    share = max(simulated(0.01, args.quick, slices), through_the_audit(args.seeds, slices))
    say(f"\nlargest exact probability of a miss: {exact:.6f} (alpha 0.01)")
    say(f"largest share of the misses allowed, simulated: {share:.2f}")
    if args.write:
        command = "python benchmarks/coverage.py --write" + " --quick" * args.quick + f" --seeds {args.seeds}"
        PAGE.write_text(page(command, time.process_time() + slices.earlier), encoding="utf-8")
    raise SystemExit(math.ceil(exact - 0.01 - 1e-9) > 0 or share > 1)


if __name__ == "__main__":
    main()
